"""Regions of interest, as a file tells of them: in halves of the image, from its centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xarray_nd2.errors import ND2FormatError

if TYPE_CHECKING:
    from xarray_nd2.metadata.tree import Branch


@dataclass(frozen=True)
class Outline:
    """Where a region is from some time on; NaN for what is not told.

    Attributes
    ----------
    milliseconds : float
        From when on.
    enabled : bool
        Whether the region is there then.
    centre : tuple of float
        x, y and z from the centre of the image, in halves of the image.
    rotation : float
        In the vendor's unit.
    size : tuple of float
        Along x, y and z before the rotation, in halves of the image.
    vertices : tuple of (x, y)
        From the centre of the region, in halves of the image.
    """

    milliseconds: float
    enabled: bool
    centre: tuple[float, float, float]
    rotation: float
    size: tuple[float, float, float]
    vertices: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Roi:
    """A region of interest; None and "" for what is not told.

    Attributes
    ----------
    id : int or None
        Its number in the file.
    guid, name : str
        Its identifier, and how the user calls it.
    shape, interpretation, scope : int or None
        The vendor's numbers of what shape it has, what it is for, and whether it is of all positions.
    position : int or None
        The position that it is of; None of one that is of all.
    color : int or None
        For display, with red in the lowest byte.
    outlines : tuple of Outline
        Where it is: one, or several of a region that moves.
    """

    id: int | None
    guid: str
    name: str
    shape: int | None
    interpretation: int | None
    scope: int | None
    position: int | None
    color: int | None
    outlines: tuple[Outline, ...]

    @property
    def main_outline(self) -> int | None:
        """Number of the first outline that is enabled, else of the first one; None if there is none."""
        enabled = (number for number, each in enumerate(self.outlines) if each.enabled)
        return next(enabled, 0 if self.outlines else None)


def listed_rois(records: Branch) -> list[Roi]:
    """The regions of a chunk: those of all positions, then those of one.

    Parameters
    ----------
    records : Branch
        The content of the chunk; what of it is odd is noted there.

    Raises
    ------
    ND2FormatError
        There is something, but nothing that could be taken for regions.
    """
    root = records.unprefixed()
    regions = [(region, None) for _, region in root.numbered("Global_")]
    of_positions = [
        (region, position)
        for position, listed in root.numbered("2PerMPoint_")
        for _, region in listed.unprefixed().numbered("")
    ]
    found = []
    for region, position in [*regions, *of_positions]:
        if region:
            found.append(_read_roi(region.unprefixed(), position))
        else:
            region.oddities.note(f"{region.path} cannot be read")
    told_none = "Global_Size" in root or "2PerMPoint_Size" in root
    if not found and (root.oddities or (root and not told_none)):
        raise ND2FormatError(f"the regions of interest cannot be read: {root.oddities}")
    return found


def _read_roi(region: Branch, position: int | None) -> Roi:
    info = region.below("Info").unprefixed()
    return Roi(
        id=region.whole("Id", needed=True),
        guid=region.text("GUID") or "",
        name=info.text("Label") or "",
        shape=info.whole("ShapeType", needed=True),
        interpretation=info.whole("InterpType", needed=True),
        scope=info.whole("Scope"),
        position=position,
        color=info.whole("Color"),
        outlines=tuple(
            _read_outline(outline.unprefixed()) for _, outline in region.numbered("AnimParams_")
        ),
    )


def _read_outline(outline: Branch) -> Outline:
    box, extruded = (outline.below(name).unprefixed() for name in ("BoxShape", "ExtrudedShape"))
    vertices = tuple(_vertex(point) for _, point in extruded.numbered("BasePoints_"))
    milliseconds = outline.number("TimeMs")
    return Outline(
        milliseconds=0.0 if milliseconds is None else milliseconds,
        enabled=outline.flag("Enabled") is not False,
        centre=(
            _number(outline, "CenterX", needed=True),
            _number(outline, "CenterY", needed=True),
            _number(outline, "CenterZ"),
        ),
        rotation=_number(outline, "RotationZ"),
        size=(
            _number(box, "SizeX"),
            _number(box, "SizeY"),
            _number(extruded if vertices else box, "SizeZ"),
        ),
        vertices=vertices,
    )


def _vertex(point: Branch) -> tuple[float, float]:
    """A point, whose two numbers are called x and y somehow, or come in that order."""
    names = list(point.values)
    if len(names) != 2:
        point.oddities.note(f"{point.path} is not what it should be")
        return math.nan, math.nan
    if [name[-1:].lower() for name in names] == ["y", "x"]:
        names.reverse()
    return _number(point, names[0], needed=True), _number(point, names[1], needed=True)


def _number(branch: Branch, name: str, *, needed: bool = False) -> float:
    value = branch.number(name, needed=needed)
    return math.nan if value is None else value
