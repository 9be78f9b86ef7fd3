"""The plate whose wells the images of a document are of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.ome.values import along, known, xml_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from ome_types import model

_MAX_INTEGER: Final = 2**31 - 1  # of the schema
_NAMING_WORDS: Final = ("letter", "number")
_LOOP_NUMBERS: Final = ("", "2", "3", "4")  # behind the names of labels, by the loop they are of


def plates(dataset: xr.Dataset, image_sizes: dict[str, int]) -> list[model.Plate]:
    """The plate, with the images in each of its wells; none where rows and columns are not known.

    Parameters
    ----------
    dataset : xarray.Dataset
        With the labels ``well_row`` and ``well_column``, and ``well`` for names.
    image_sizes : dict of str to int
        Loops that the document has images for, whose numbers are row-major along them.
    """
    from ome_types import model

    for loop_number in _LOOP_NUMBERS:
        names, rows, columns = (
            along(dataset, f"{label}{loop_number}", image_sizes)
            for label in ("well", "well_row", "well_column")
        )
        if rows is not None and columns is not None:
            break
    else:
        return []
    images_of_well: dict[tuple[int, int], list[int]] = {}
    places = zip(rows.ravel().tolist(), columns.ravel().tolist(), strict=True)
    for number, (row, column) in enumerate(places):
        if 0 <= row <= _MAX_INTEGER and 0 <= column <= _MAX_INTEGER:  # else it is in no well
            images_of_well.setdefault((int(row), int(column)), []).append(number)
    if not images_of_well:
        return []
    name_of_image = [] if names is None else [xml_text(name) for name in names.ravel().tolist()]
    wells = [
        model.Well(
            id=f"Well:0:{number}",
            row=row,
            column=column,
            well_samples=[
                model.WellSample(
                    id=f"WellSample:0:{image}",
                    index=image,
                    image_ref=model.ImageRef(id=f"Image:{image}"),
                )
                for image in images
            ],
            **known(external_identifier=(name_of_image and name_of_image[images[0]]) or None),
        )
        for number, ((row, column), images) in enumerate(images_of_well.items())
    ]
    attrs = {} if names is None else dataset[f"well{loop_number}"].attrs
    return [model.Plate(id="Plate:0", wells=wells, **_plate_fields(attrs))]


def _plate_fields(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """What the attributes of the label ``well`` tell of the plate."""
    sizes = {name: attrs.get(f"plate_{name}") for name in ("rows", "columns")}
    naming = {
        name: str(attrs.get(f"plate_{name}_naming", "")).lower() for name in ("row", "column")
    }
    return known(
        name=xml_text(attrs["plate"]) if "plate" in attrs else None,
        **{
            name: size if type(size) is int and 1 <= size <= _MAX_INTEGER else None
            for name, size in sizes.items()
        },
        **{
            f"{name}_naming_convention": word if word in _NAMING_WORDS else None
            for name, word in naming.items()
        },
    )
