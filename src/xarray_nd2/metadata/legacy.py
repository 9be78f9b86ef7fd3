"""The metadata of legacy files (version 1), put into the words of later ones.

They tell the same, with some other names and other nesting. What is put into the later form here is read
by the same functions as all files are.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.metadata.experiment import Experiment, Loop, LoopKind, read_experiment
from xarray_nd2.metadata.tree import Branch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from xarray_nd2.format.boxes import ImageHeader
    from xarray_nd2.metadata.tree import Oddities

    Values = Mapping[str, Any]

_MAX_LEVELS: Final = 16
_FIRST_ITEM: Final = "i0000000000"  # nd2's name of the first item of a list
_NUMBER_AT_END: Final = re.compile(r"(\d{1,9})$")
_LOOP_OF_OLD_FILES: Final = re.compile(r"LoopNo\d{1,9}")
_DIMENSIONS_LABEL: Final = "Dimensions:"
_DESCRIPTION_LABEL: Final = "Metadata:"
_DIMENSION_PATTERN: Final = re.compile(r"(\w{1,20})'?\((\d{1,9})\)")
_MAX_DIMENSIONS_CHARACTERS: Final = 1000
_KIND_OF_WORD: Final = {"T": "T", "XY": "P", "Z": "Z"}
# `iType` of stacks that keep the home plane, and of those that do not, up and down.
_STACK_TYPES: Final = {(True, True): 2, (True, False): 6, (False, True): 0, (False, False): 4}


def legacy_attributes(
    header: ImageHeader, components: int, frames: int, advanced: Values
) -> dict[str, Any]:
    """The image attributes.

    Parameters
    ----------
    header : ImageHeader
        Size of the image.
    components : int
        Values of a pixel, of all channels.
    frames : int
        How many there are.
    advanced : mapping
        Content of the box ARTT.
    """
    significant = _whole(advanced.get("SignificantBits", advanced.get("uiSignificantBits")))
    return {
        "uiWidth": header.width,
        "uiWidthBytes": 0,  # rows without padding
        "uiHeight": header.height,
        "uiComp": components,
        "uiBpcInMemory": 8 * -(-header.bits // 8),
        "uiBpcSignificant": significant or header.bits,
        "uiSequenceCount": frames,
        "ePixelType": 1,
    }


def _whole(value: object) -> int | None:
    """A number that may be a text."""
    try:
        return int(value) if isinstance(value, (int, str)) else None
    except ValueError:
        return None


def legacy_picture(values: Values) -> dict[str, Any]:
    """The picture metadata of a frame, from the box VIMD."""
    described = values.get("sPicturePlanes")
    if not isinstance(described, dict):
        return dict(values)
    planes, samples = {}, {}
    listed = described.get("sPlane") or described.get("sPlaneNew")
    for number, plane in enumerate(_in_order(listed)):
        radius = values.get("dPinholeRadius")
        camera = _dict(_named(plane, "CameraSetting"))
        planes[f"a{number}"] = {
            "dPinholeDiameter": 2 * radius if isinstance(radius, float) else None,
            **plane,
            "sDescription": _named(plane, "OpticalConfigName") or _named(plane, "Description"),
            "uiSampleIndex": number,
        }
        samples[f"a{number}"] = {
            "dExposureTime": _named(camera, "Exposure"),
            "pCameraSetting": {
                "CameraUserName": _named(camera, "CameraName"),
                "FormatQuality": {"fmtDesc": {"dBinningX": _named(camera, "CamBinningX")}},
            },
        }
    pictured = {**described, "sPlane": {}, "sPlaneNew": planes, "sSampleSetting": samples}
    return {**values, "sPicturePlanes": pictured}


def _named(values: Values, name: str) -> Any:
    """A value by its name without the prefix that tells its type."""
    for full, value in values.items():
        if full.lstrip("abcdefghijklmnopqrstuvwxyz_") == name:
            return value
    return None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _in_order(value: object) -> list[dict[str, Any]]:
    """The branches of a list, by the numbers at the ends of their names."""
    return [each for _, each in _numbered(value) if isinstance(each, dict)]


def _numbered(value: object) -> list[tuple[str, Any]]:
    def number(item: tuple[str, Any]) -> tuple[int, int]:
        match = _NUMBER_AT_END.search(item[0])
        return (0, int(match[1])) if match else (1, 0)

    return sorted(_dict(value).items(), key=number)


def legacy_experiment(
    values: Values, told: Sequence[tuple[str, int]], frames: int, oddities: Oddities
) -> Experiment:
    """The loops, from the box AIM1 or AIMD and from what the description says of them.

    Parameters
    ----------
    values : mapping
        Content of the box; empty where there is none.
    told : sequence of (str, int)
        Kind and size of the loops by the description, as of `told_dimensions`. It overrules the sizes of
        the loops, where it does not make another number of frames of loops that fit.
    frames : int
        How many there are.
    oddities : Oddities
        Where to note what is not as it should be.
    """
    sizes = dict(told)
    tree: dict[str, Any] = {}
    for level in reversed(_levels(values)):
        own = _later_level(level, sizes)
        tree = own | ({"ppNextLevelEx": {_FIRST_ITEM: tree}} if tree else {})
    found = read_experiment(Branch(tree, "experiment", oddities))
    if len({loop.kind for loop in found.loops}) == len(found.loops):
        overruled = replace(found, loops=tuple(_resized(loop, sizes) for loop in found.loops))
    else:
        overruled = found
    unknown = Branch(None, "experiment", oddities)
    by_text = Experiment(
        tuple(Loop(*each, unknown, []) for each in told if each[1] > 0), sound=True
    )
    for each in (overruled, found, by_text):
        if math.prod(loop.count for loop in each.loops) == frames and each.loops:
            return each
    return overruled


def _resized(loop: Loop, sizes: Mapping[str, int]) -> Loop:
    count = sizes.get(loop.kind) or loop.count
    items = loop.items[:count] if loop.kind == "P" else loop.items
    if loop.kind == "T" and count != loop.count and items:
        items = []  # its phases do not explain it
    return replace(loop, count=count, items=items)


def _levels(values: Values) -> list[dict[str, Any]]:
    """The levels of an experiment, the outermost first."""
    level = _dict(values)
    for _ in range(_MAX_LEVELS):
        known = {name: value for name, value in level.items() if "UnknownData" not in name}
        inside = [value for value in known.values() if isinstance(value, dict)]
        old = [name for name in known if _LOOP_OF_OLD_FILES.fullmatch(name)]
        if old:
            chain = [known[name] for name in sorted(old) if isinstance(known[name], dict)]
            return chain[:_MAX_LEVELS]
        if "eType" in known or len(inside) != 1:
            break
        level = inside[0]
    found: list[dict[str, Any]] = []
    while level and "eType" in level and len(found) < _MAX_LEVELS:
        found.append(level)
        below = _dict(level.get("ppNextLevelEx"))
        level = below if "eType" in below else next(iter(_in_order(below)), {})
    return found


def _later_level(level: Values, sizes: Mapping[str, int]) -> dict[str, Any]:
    """A level without those inside of it, in the form of later files."""
    kept = {
        name: value
        for name, value in level.items()
        if name not in ("ppNextLevelEx", "uiNextLevelCount", "pItemValid")
    }
    parameters = _dict(level.get("uLoopPars"))
    if list(parameters) == [_FIRST_ITEM]:
        parameters = _dict(parameters[_FIRST_ITEM])
    kind = level.get("eType")
    if kind == LoopKind.POSITIONS:
        parameters = _with_points(parameters)
    elif kind == LoopKind.Z_STACK:
        parameters = _with_stack_type(parameters)
    elif kind == LoopKind.TIME_PHASES:
        parameters = _with_one_phase(parameters, sizes.get("T"))
    return {**kept, "uLoopPars": parameters}


def _with_points(parameters: Values) -> dict[str, Any]:
    """A loop over positions with its points in the order in which they were visited.

    Old files list each of their values apart, the last point first.
    """
    names = ("dPosX", "dPosY", "dPosZ", "pPosName")
    columns = {name: [value for _, value in _numbered(parameters.get(name))] for name in names}
    length = len(columns["dPosX"])
    points = [
        {
            name.replace("pPosName", "dPosName"): column[number]
            for name, column in columns.items()
            if number < len(column)
        }
        for number in reversed(range(length))
    ]
    count = parameters.get("uiCount")
    if isinstance(count, int) and 0 < count < length:
        points = points[:count]
    kept = {name: value for name, value in parameters.items() if name not in names}
    return {**kept, "Points": {f"i{i:010}": point for i, point in enumerate(points)}}


def _with_stack_type(parameters: Values) -> dict[str, Any]:
    """A stack that tells its type, as old ones do by where they start and end."""
    low, high, home = (parameters.get(f"dZ{name}") for name in ("Low", "High", "Home"))
    if "iType" in parameters or not (isinstance(low, float) and isinstance(high, float)):
        return dict(parameters)
    least, most = min(low, high), max(low, high)
    keeps_home = isinstance(home, float) and least <= home <= most and least < most
    kind = _STACK_TYPES[keeps_home, low <= high]
    return {**parameters, "iType": kind, "dZLow": least, "dZHigh": most}


def _with_one_phase(parameters: Values, told: int | None) -> dict[str, Any]:
    """Time phases; of several only the one as long as the description says, if there is one."""
    phases = _numbered(parameters.get("pPeriod"))
    same = [item for item in phases if told and _dict(item[1]).get("uiCount") == told]
    if not same or len(phases) == 1:
        return dict(parameters)
    kept = {name: value for name, value in parameters.items() if name != "pPeriodValid"}
    return {**kept, "pPeriod": dict(same[:1])}


def description_of(texts: Iterable[Any]) -> str:
    """The description among the items of the box TINF; "" where there is none."""
    for item in texts:
        text = _named(item, "Text") if isinstance(item, dict) else None
        if isinstance(text, str) and text.startswith(_DESCRIPTION_LABEL):
            return text
    return ""


def told_dimensions(description: str) -> list[tuple[str, int]]:
    r"""Kinds and sizes of the loops that a description tells, the outermost first; no channels.

    Examples
    --------
    >>> told_dimensions("Metadata:\r\nDimensions: T(2) x XY(3) x λ(2)\r\n")
    [('T', 2), ('P', 3)]
    """
    start = description.find(_DIMENSIONS_LABEL)
    if start < 0:
        return []
    line = description[start:][:_MAX_DIMENSIONS_CHARACTERS].splitlines()[0]
    found = [
        (_KIND_OF_WORD.get(word), int(size)) for word, size in _DIMENSION_PATTERN.findall(line)
    ]
    return [(kind, size) for kind, size in found if kind and size]
