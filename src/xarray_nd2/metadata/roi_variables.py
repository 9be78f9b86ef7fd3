"""Regions of interest as variables, in pixels and in µm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.metadata.group import Group
from xarray_nd2.metadata.label import hex_color, rounded, whole_text_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.rois import Outline, Roi
    from xarray_nd2.metadata.tree import Oddities

    Floats = NDArray[np.float64]

_SHAPES_OF_ROI: Final = dict(
    enumerate(
        (
            *("any", "raster", "point", "rectangle", "ellipse", "polygon", "bezier", "line"),
            *("polyline", "circle", "square", "ring", "spiral"),
        )
    )
)
_INTERPRETATIONS_OF_ROI: Final = dict(
    enumerate(("any", "standard", "background", "reference", "stimulation"))
)
_SCOPES_OF_ROI: Final = dict(enumerate(("any", "all positions", "one position")))
_MAX_PADDED_VERTICES: Final = 2**23  # of an array, in which each region has as many as the largest
_MAX_PADDED_KEYFRAMES: Final = 2**20
_UNIT_NOT_KNOWN: Final = "as stored; the unit is not known"
_BEFORE_ROTATION: Final = "before the rotation"
_IN_PIXELS: Final = "_pixels"  # what names of variables end in


def rois_group(
    rois: Sequence[Roi],
    image_shape: tuple[int, int],
    image_attrs: Mapping[str, Any],
    oddities: Oddities,
) -> Group:
    """The regions along the dimension ``roi``.

    Parameters
    ----------
    rois : sequence of Roi
        One at least.
    image_shape : tuple of int
        Height and width of the image in pixels.
    image_attrs : mapping
        Attributes of the image, with ``pixel_size_um`` where it is calibrated.
    oddities : Oddities
        Where to note what had to be left out.

    Returns
    -------
    Group
        Each region as of its first outline that is enabled; where regions have several, or are not
        always there, all outlines along ``roi`` and ``keyframe``, too.
    """
    pixel_um = image_attrs.get("pixel_size_um", (math.nan,))[0]
    outlines = [outline for roi in rois for outline in roi.outlines]
    main, keyframes = _arranged(rois, oddities)
    geometry = _geometry(outlines, image_shape, pixel_um)
    places = max(len(rois), len(outlines), keyframes.size)
    vertices = _vertices(outlines, image_shape, pixel_um, places, oddities)
    variables = _facts(rois, oddities)
    for name, (values, attrs) in geometry.items():
        variables[name] = ("roi",), values[main], attrs
    for name, (values, attrs) in vertices.items():
        variables[name] = ("roi", "vertex"), values[main], attrs
    if keyframes.size:
        variables |= _times(outlines, keyframes)
        for name, (values, attrs) in geometry.items():
            variables[f"keyframe_{name}"] = ("roi", "keyframe"), values[keyframes], attrs
        for name, (values, attrs) in vertices.items():
            dims = ("roi", "keyframe", "vertex")
            variables[f"keyframe_{name}"] = dims, values[keyframes], attrs
    return Group(variables, oddities=oddities)


def _arranged(
    rois: Sequence[Roi], oddities: Oddities
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which outline of all is the main one of each region, and which are its keyframes.

    Shapes (rois,) and (rois, keyframes), with -1 for none; no keyframes where no region moves, or
    where they would take too much memory.
    """
    counts = [len(roi.outlines) for roi in rois]
    starts = np.cumsum([0, *counts[:-1]])
    main = np.full(len(rois), -1)
    for number, roi in enumerate(rois):
        if roi.main_outline is not None:
            main[number] = starts[number] + roi.main_outline
    most = max(counts) if any(_moves(roi) for roi in rois) else 0
    if most * len(rois) > _MAX_PADDED_KEYFRAMES:
        oddities.note(f"keyframes are left out: up to {most} of {len(rois)} regions")
        most = 0
    order = np.arange(most)
    keyframes = np.where(order < np.array(counts)[:, None], starts[:, None] + order, -1)
    return main, keyframes


def _moves(roi: Roi) -> bool:
    """Whether a region is not just where its only outline is, from the beginning on."""
    still = len(roi.outlines) == 1 and roi.outlines[0].enabled and not roi.outlines[0].milliseconds
    return bool(roi.outlines) and not still


def _facts(rois: Sequence[Roi], oddities: Oddities) -> dict[str, Coordinate]:
    """What regions are, apart from where."""

    def texts(name: str, long_name: str, values: list[str]) -> Coordinate:
        return ("roi",), whole_text_array(values, name, oddities), {"long_name": long_name}

    def numbers(long_name: str, comment: str, values: list[int | None]) -> Coordinate:
        known = np.array([-1 if value is None else value for value in values], np.int64)
        return ("roi",), known, {"long_name": long_name, "comment": comment}

    shapes = [_word("shape", _SHAPES_OF_ROI, roi.shape) for roi in rois]
    meant = [_word("interpretation", _INTERPRETATIONS_OF_ROI, roi.interpretation) for roi in rois]
    scopes = [_word("scope", _SCOPES_OF_ROI, roi.scope) for roi in rois]
    return {
        "id": numbers("number in the file", "-1 where it is not told", [roi.id for roi in rois]),
        "guid": texts("guid", "identifier", [roi.guid for roi in rois]),
        "name": texts("name", "name", [roi.name for roi in rois]),
        "shape": texts("shape", "shape", shapes),
        "interpretation": texts("interpretation", "what the region is for", meant),
        "scope": texts("scope", "of which positions the region is", scopes),
        "position": numbers(
            "number of the position",
            "as the file counts, from 0; whether points that were skipped count is not known; -1: not of one",
            [roi.position for roi in rois],
        ),
        "color": texts("color", "display colour", [hex_color(roi.color) for roi in rois]),
        "keyframe_count": (
            ("roi",),
            np.array([len(roi.outlines) for roi in rois], np.int64),
            {"long_name": "number of keyframes", "units": "1"},
        ),
    }


def _word(what: str, words: Mapping[int, str], number: int | None) -> str:
    """The word for one of the vendor's numbers; empty for None."""
    return "" if number is None else words.get(number, f"{what} {number}")


def _geometry(
    outlines: Sequence[Outline], image_shape: tuple[int, int], pixel_um: float
) -> dict[str, tuple[Floats, dict[str, Any]]]:
    """Values of each outline, and behind them NaN, with attributes."""
    unknown = math.nan
    centre = np.array([each.centre for each in outlines] + [(unknown,) * 3], np.float64)
    size = np.array([each.size for each in outlines] + [(unknown,) * 3], np.float64)
    rotation = np.array([each.rotation for each in outlines] + [unknown], np.float64)
    found: dict[str, tuple[Floats, dict[str, Any]]] = {}
    for axis, dim, extent, pixels in (
        (0, "x", "width", image_shape[1]),
        (1, "y", "height", image_shape[0]),
    ):
        centres = _places(centre[:, axis], pixels)
        found |= _in_both_units(f"centre_{dim}", f"{dim} of the centre", centres, pixel_um)
        extents = size[:, axis] * pixels / 2
        for name, (values, attrs) in _in_both_units(extent, extent, extents, pixel_um).items():
            in_pixels = "in pixels, " if name.endswith(_IN_PIXELS) else ""
            found[name] = values, attrs | {"comment": f"{in_pixels}{_BEFORE_ROTATION}"}
    for name, long_name, values in (
        ("centre_z", "z of the centre", centre[:, 2]),
        ("depth", "depth", size[:, 2]),
        ("rotation", "rotation", rotation),
    ):
        found[name] = values, {"long_name": long_name, "comment": _UNIT_NOT_KNOWN}
    return found


def _vertices(
    outlines: Sequence[Outline],
    image_shape: tuple[int, int],
    pixel_um: float,
    places: int,
    oddities: Oddities,
) -> dict[str, tuple[Floats, dict[str, Any]]]:
    """Vertices of each outline, and behind them NaN: shape (outlines + 1, vertices), with attributes.

    None at all where an array of so many `places` of outlines would take too much memory.
    """
    most = max((len(each.vertices) for each in outlines), default=0)
    if most * (places + 1) > _MAX_PADDED_VERTICES:
        oddities.note(f"vertices are left out: up to {most} in {places} places")
        most = 0
    offsets = np.full((len(outlines) + 1, most, 2), np.nan)
    for number, outline in enumerate(outlines):
        if most and outline.vertices:
            offsets[number, : len(outline.vertices)] = outline.vertices
    found: dict[str, tuple[Floats, dict[str, Any]]] = {}
    for axis, dim, pixels in ((0, "x", image_shape[1]), (1, "y", image_shape[0])):
        centres = np.array([each.centre[axis] for each in outlines] + [math.nan])
        values = _places(centres[:, None] + offsets[..., axis], pixels)
        for name, (placed, attrs) in _in_both_units(
            f"vertex_{dim}", f"{dim} of the vertex", values, pixel_um
        ).items():
            found[name] = placed, attrs | {"comment": f"{attrs['comment']}; {_BEFORE_ROTATION}"}
    return found


def _places(halves: Floats, pixels: int) -> Floats:
    """Pixels from the centre of the first one, of places in halves of the image from its centre."""
    return pixels / 2 * (1 + halves) - 0.5


def _in_both_units(
    name: str, long_name: str, pixels: Floats, pixel_um: float
) -> dict[str, tuple[Floats, dict[str, Any]]]:
    """Values in µm, NaN where the image is not calibrated, and in pixels."""
    from_first = "from the centre of the first pixel"
    return {
        name: (
            rounded(pixels * pixel_um),
            {"long_name": long_name, "units": "µm", "comment": from_first},
        ),
        f"{name}{_IN_PIXELS}": (
            rounded(pixels),
            {"long_name": long_name, "units": "1", "comment": f"in pixels, {from_first}"},
        ),
    }


def _times(outlines: Sequence[Outline], keyframes: NDArray[np.int64]) -> dict[str, Coordinate]:
    """From when on outlines hold, and whether the region is there then."""
    dims = ("roi", "keyframe")
    seconds = np.array([each.milliseconds / 1000 for each in outlines] + [math.nan])
    enabled = np.array([each.enabled for each in outlines] + [False])
    attrs = {
        "long_name": "time of the keyframe",
        "units": "s",
        "comment": "as stored; whether it counts from the first frame is not known",
    }
    return {
        "keyframe_time": (dims, rounded(seconds[keyframes]), attrs),
        "keyframe_enabled": (
            dims,
            enabled[keyframes],
            {"long_name": "whether the region is there at the keyframe"},
        ),
    }
