"""Regions of interest, in the words of the user and as files have them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xarray_nd2.testing.checks import raise_unless, raise_unless_one_of
from xarray_nd2.testing.variant import lite_variant, variant_xml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.testing.variant import Tree, Value

__all__ = ["Outline", "Roi", "roi_chunk"]

_ROI_CHUNK = "CustomData|RoiMetadata_v1!"
_ROOT_NAME = "RoiMetadata_v1"
_SHAPE_CODES = {
    "raster": 1,
    "point": 2,
    "rectangle": 3,
    "ellipse": 4,
    "polygon": 5,
    "bezier": 6,
    "line": 7,
    "polyline": 8,
    "circle": 9,
    "square": 10,
    "ring": 11,
    "spiral": 12,
}
_INTERPRETATION_CODES = {"standard": 1, "background": 2, "reference": 3, "stimulation": 4}
_ALL_POSITIONS_CODE, _ONE_POSITION_CODE = 1, 2


@dataclass(frozen=True)
class Outline:
    """Where a region is, from some time on.

    Places and sizes are in pixels, and the centre of the first pixel is at (0, 0).

    Parameters
    ----------
    centre : (x, y)
        Of the region.
    size : (width, height), optional
        Of a region that has no vertices.
    vertices : sequence of (x, y), optional
        In pixels of the image, as `centre`, not from it.
        Of a polygon and the like.
    rotation : float, optional
        As stored.
    time : float, optional
        Seconds, from when on the region is there.
    enabled : bool, optional
        Whether it is there then.
    centre_z, depth : float, optional
        As stored.
    """

    centre: tuple[float, float]
    size: tuple[float, float] | None = None
    vertices: Sequence[tuple[float, float]] = ()
    rotation: float = 0.0
    time: float = 0.0
    enabled: bool = True
    centre_z: float = 0.0
    depth: float = 0.0


@dataclass(frozen=True)
class Roi:
    """A region of interest.

    Parameters
    ----------
    shape : str
        Such as ``"rectangle"``, ``"ellipse"`` or ``"polygon"``.
    outlines : Outline or sequence of Outline
        Where it is; several of a region that moves.
    name : str, optional
        How the user calls it.
    interpretation : {"standard", "background", "reference", "stimulation"}, optional
        What it is for.
    position : int, optional
        The position that it is of; all of them unless given.
    color : str, optional
        For display, as ``"#rrggbb"``.
    id : int, optional
        Its number in the file; its place among all regions, from 1, unless given.

    Raises
    ------
    ValueError
        If there is no such shape, interpretation or colour.
    """

    shape: str
    outlines: Outline | Sequence[Outline]
    name: str = ""
    interpretation: str = "standard"
    position: int | None = None
    color: str = "#ff0000"
    id: int | None = None

    def __post_init__(self) -> None:
        raise_unless_one_of("shape", self.shape, list(_SHAPE_CODES))
        raise_unless_one_of("interpretation", self.interpretation, list(_INTERPRETATION_CODES))
        raise_unless(
            re.fullmatch("#[0-9a-fA-F]{6}", self.color) is not None,
            f"color must look like '#rrggbb', not {self.color!r}",
        )
        raise_unless(
            self.position is None or self.position >= 0, f"position is {self.position}, below 0"
        )


def roi_chunk(
    rois: Sequence[Roi] | None, shape: tuple[int, int], *, lite: bool
) -> dict[str, bytes]:
    """The chunk of the regions, by its name; none for None.

    Parameters
    ----------
    rois : sequence of Roi or None
        The regions; without any, the chunk is that of a file of NIS-Elements that has none.
    shape : (height, width)
        Of the image in pixels.
    lite : bool
        Encoded as in version 3, not as XML.
    """
    if rois is None:
        return {}
    tree: dict[str, Value] = {}
    regions = [(roi.position, _region(roi, i, shape)) for i, roi in enumerate(rois, 1)]
    positions = [position for position, _ in regions if position is not None]
    if regions:
        tree |= _vector("m_vectGlobal_", [each for position, each in regions if position is None])
    if positions:
        of_positions = [
            _vector("m_", [each for position, each in regions if position == i])
            for i in range(max(positions) + 1)
        ]
        tree |= _vector("m_vect2PerMPoint_", of_positions)
    data = lite_variant({_ROOT_NAME: tree}) if lite else variant_xml(tree, _ROOT_NAME)
    return {_ROI_CHUNK: data}


def _vector(stem: str, items: Sequence[Tree]) -> dict[str, Value]:
    """A list as files have it here: how many, and each under a name of its own."""
    return {f"{stem}Size": len(items), **{f"{stem}{i}": item for i, item in enumerate(items)}}


def _region(roi: Roi, number: int, shape: tuple[int, int]) -> Tree:
    outlines = [roi.outlines] if isinstance(roi.outlines, Outline) else roi.outlines
    all_positions = roi.position is None
    return {
        "m_uiId": number if roi.id is None else roi.id,
        "m_sGUID": f"{{00000000-0000-0000-0000-{number:012}}}",
        "m_sInfo": {
            "m_uiShapeType": _SHAPE_CODES[roi.shape],
            "m_uiInterpType": _INTERPRETATION_CODES[roi.interpretation],
            "m_uiScope": _ALL_POSITIONS_CODE if all_positions else _ONE_POSITION_CODE,
            "m_sLabel": roi.name,
            "m_uiColor": int.from_bytes(bytes.fromhex(roi.color[1:]), "little"),
            "m_bMultiFrame": len(outlines) > 1,
        },
        **_vector("m_vectAnimParams_", [_animation(outline, shape) for outline in outlines]),
    }


def _animation(outline: Outline, shape: tuple[int, int]) -> Tree:
    """An outline, in halves of the image from its centre."""
    height, width = shape
    x, y = outline.centre
    wide, high = outline.size or (0.0, 0.0)
    points: list[Tree] = [
        {"x": 2 * (px - x) / width, "y": 2 * (py - y) / height} for px, py in outline.vertices
    ]
    return {
        "m_dTimeMs": float(outline.time) * 1000,
        "m_bEnabled": outline.enabled,
        "m_dCenterX": 2 * (x + 0.5) / width - 1,
        "m_dCenterY": 2 * (y + 0.5) / height - 1,
        "m_dCenterZ": float(outline.centre_z),
        "m_dRotationZ": float(outline.rotation),
        "m_sBoxShape": {
            "m_dSizeX": 2 * wide / width,
            "m_dSizeY": 2 * high / height,
            "m_dSizeZ": 0.0 if outline.vertices else float(outline.depth),
        },
        "m_sExtrudedShape": {
            "m_dSizeZ": float(outline.depth) if outline.vertices else 0.0,
            **_vector("m_vectBasePoints_", points),
        },
    }
