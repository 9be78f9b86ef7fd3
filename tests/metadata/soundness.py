"""What must hold of a file, whatever of its descriptive metadata is damaged.

The pixels are compared with the stored frames, taken from the bytes of the file by the image
attributes and the chunk map alone. The labels are compared with those of the intact file, as far as
they have nothing to do with the damaged part; the tables below say which have.
"""

from __future__ import annotations

import io
import json
import math
import re
import time
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tests.metadata.chunk_trees import decoded
from tests.metadata.damaged import (
    EXPERIMENT,
    NOTHING,
    PARTS,
    PICTURE,
    PLACES,
    TEXTS,
    TIMES,
    chunks_of,
)
from xarray_nd2 import ND2FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from tests.metadata.damaged import Variant

MAX_OPENING_SECONDS = 6.0  # of the processor, which others may slow down; it takes below 2
MAX_WARNINGS = 5
MAX_BYTES_READ_AT_ONCE = 2**26
SOURCE = "<BytesIO>"

PARTS_OF_COORDINATE: dict[str, set[str]] = {
    "T": {EXPERIMENT, TIMES},
    "Z": {EXPERIMENT, PLACES},  # recorded heights tell whether it rises
    "P": {EXPERIMENT},
    "U": {EXPERIMENT},
    "position_name": {EXPERIMENT},
    "time": {EXPERIMENT, TIMES},
    "frame_valid": {EXPERIMENT},
    "well": {EXPERIMENT},
    "well_row": {EXPERIMENT},
    "well_column": {EXPERIMENT},
    "acquired": {EXPERIMENT, TIMES, PICTURE},
    "stage_x": {EXPERIMENT, PLACES, PICTURE},
    "stage_y": {EXPERIMENT, PLACES, PICTURE},
    "stage_z": {EXPERIMENT, PLACES, PICTURE},
    "C": {PICTURE},
    "S": {PICTURE},
    "Y": {PICTURE},
    "X": {PICTURE},
    "emission": {PICTURE},
    "excitation": {PICTURE},
    "exposure": {PICTURE},
    "pinhole": {PICTURE},
    "modality": {PICTURE},
    "color": {PICTURE},
    "laser_power": {PICTURE},
    "binning": {PICTURE},
    "camera": {PICTURE},
    "optical_configuration": {PICTURE},
}
PARTS_OF_COORDINATE_WITH_POSITIONS = PARTS_OF_COORDINATE | {
    "stage_x": {EXPERIMENT},
    "stage_y": {EXPERIMENT},
}
TEXT_NAMES = (
    *("imageId", "type", "group", "sampleId", "author", "description", "capturing", "sampling"),
    *("location", "date", "conclusion", "info1", "info2", "optics", "appVersion"),
)
# Of the dataset and of the image.
PARTS_OF_ATTRIBUTE: dict[str, set[str]] = {
    "source": set(),
    "title": set(),
    "format": set(),
    "long_name": set(),
    "bits_significant": set(),
    "nd2_metadata": set(PARTS),
    "rescued": set(PARTS),
    **{name: {TEXTS} for name in TEXT_NAMES},
    "start": {PICTURE},
    "camera_to_stage": {PICTURE},
    "pixel_size_um": {PICTURE},
    "objective": {PICTURE},
    "magnification": {PICTURE},
    "numerical_aperture": {PICTURE},
    "refractive_index": {PICTURE},
    "zoom": {PICTURE},
    "pixel_aspect_ratio": {PICTURE},
}
# Values that a reader may take at their word, so that other loops come without a warning.
PLAUSIBLE_VALUES = ("bool", "zero")


@dataclass(frozen=True, eq=False)
class Intact:
    """A file as it was: its bytes, the frames in them, and what it opens as, if it does."""

    data: bytes
    frames: dict[int, NDArray[Any]]
    dataset: xr.Dataset | None

    @classmethod
    def of(cls, data: bytes) -> Intact:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = xr.open_dataset(io.BytesIO(data), engine="nd2")
        except Exception:  # noqa: BLE001
            dataset = None  # the variant without damage tells why
        return cls(data, stored_frames(data), dataset)


def stored_frames(data: bytes) -> dict[int, NDArray[Any]]:
    """The frames of a file by their number, each (Y, X, component) as it is stored."""
    chunks = chunks_of(data)
    attributes = decoded(next(chunks[n] for n in chunks if n.startswith(b"ImageAttributes")))
    height, width, stride, components, bits, kind, compression = (
        int(attributes.number(key))
        for key in (
            *("uiHeight", "uiWidth", "uiWidthBytes", "uiComp"),
            *("uiBpcInMemory", "ePixelType", "eCompression"),
        )
    )
    dtype = np.dtype(f"<{'iuf'[kind]}{bits // 8}")
    frames = {}
    for name, chunk in chunks.items():
        if not name.startswith(b"ImageDataSeq|"):
            continue
        stored = zlib.decompress(chunk[8:]) if compression == 0 else chunk[8:]
        rows = np.frombuffer(stored, np.uint8, height * stride).reshape(height, stride)
        used = np.ascontiguousarray(rows[:, : width * components * dtype.itemsize])
        frames[int(name[13:-1])] = used.view(dtype).reshape(height, width, components)
    return dict(sorted(frames.items()))


def problems_of(variant: Variant, intact: Intact) -> list[str]:
    """What is wrong with how a variant opens and reads; each begins with what kind of thing it is."""
    data = variant.applied(intact.data)
    problems: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        began = time.process_time()
        try:
            ds = xr.open_dataset(io.BytesIO(data), engine="nd2")
        except Exception as error:  # noqa: BLE001
            if isinstance(error, ND2FormatError) and variant.may_refuse:
                return []
            return [f"refused: {type(error).__name__}: {error}"]
        seconds = time.process_time() - began
        try:
            problems += problems_of_pixels(ds.image, intact)
        except Exception as error:  # noqa: BLE001
            problems.append(f"unread: {type(error).__name__}: {error}")
    if seconds > MAX_OPENING_SECONDS:
        problems.append(f"slow: opening took {seconds:.1f} s")
    problems += problems_of_coordinates(ds)
    problems += problems_of_attributes(ds)
    problems += problems_of_warnings(variant, [w.message for w in caught], ds, intact)
    if intact.dataset is not None:
        problems += problems_of_other_parts(variant, ds, intact.dataset)
    return problems


def loop_sizes(image: xr.DataArray) -> dict[str, int]:
    """Sizes of the loops: all dimensions before channels and pixels."""
    return {str(dim): n for dim, n in image.sizes.items() if dim not in ("C", "Y", "X", "S")}


def problems_of_pixels(image: xr.DataArray, intact: Intact) -> Iterator[str]:
    """Every stored frame has its place in row-major order, and all else is said not to be there."""
    loops = loop_sizes(image)
    shape, steps = tuple(loops.values()), math.prod(loops.values())
    stored = next(iter(intact.frames.values()))
    height, width, components = stored.shape
    in_order = (*loops, "C", "Y", "X", "S")
    if image.dims != tuple(dim for dim in in_order if dim in image.dims):
        yield f"shape: the dimensions are {image.dims}"
        return
    channels, samples = image.sizes.get("C", 1), image.sizes.get("S", 1)
    found = (image.sizes["Y"], image.sizes["X"], channels * samples)
    if found != (height, width, components) or image.dtype != stored.dtype:
        yield f"shape: {image.dtype} {dict(image.sizes)}, stored {stored.dtype} {stored.shape}"
        return
    if "S" in image.dims and intact.dataset is not None and "S" not in intact.dataset.image.dims:
        yield "colour: channels are shown as colour"
    if steps <= max(intact.frames):
        yield f"lost: {loops} has no place for frame {max(intact.frames)}"
        return

    valid = np.zeros(steps, bool)
    valid[list(intact.frames)] = True
    if "frame_valid" not in image.coords:
        if not valid.all():
            yield f"validity: nothing tells which of {steps} frames are not there"
    elif valid.all() or not np.array_equal(image.frame_valid.values.reshape(-1), valid):
        yield "validity: frame_valid is wrong"

    order = stored_order(image)
    whole = image.values if image.nbytes <= MAX_BYTES_READ_AT_ONCE else None
    for number, frame in intact.frames.items():
        place = tuple(map(int, np.unravel_index(number, shape))) if shape else ()
        pixels = _frame(image, whole, dict(zip(loops, place, strict=True)))
        # (C, Y, X, S), whichever of C and S there are, to (Y, X, component)
        pixels = pixels.reshape(channels, height, width, samples).transpose(1, 2, 0, 3)
        if not np.array_equal(pixels.reshape(frame.shape), frame[..., order], equal_nan=True):
            yield f"pixels: frame {number} is wrong in {dict(image.sizes)}"
            return
    if whole is not None:
        ghosts = bool(whole.reshape(steps, -1)[~valid].any())
    else:
        ends = [np.unravel_index(i, shape) for i in np.flatnonzero(~valid)[[0, -1]]]
        ghosts = any(
            image.isel(dict(zip(loops, map(int, end), strict=True))).values.any() for end in ends
        )
    if ghosts:
        yield f"pixels: a frame that is not there is not zero in {dict(image.sizes)}"


def _frame(image: xr.DataArray, whole: NDArray[Any] | None, place: dict[str, int]) -> NDArray[Any]:
    """One frame, of the whole image where that was read."""
    pixels: NDArray[Any] = image.isel(place).values if whole is None else whole[*place.values()]
    return pixels


def stored_order(image: xr.DataArray) -> list[int]:
    """Which stored component each component of the image must be, by the names it has.

    Colour is stored blue first. Red, Green and Blue are samples, or three channels in a row.
    """
    channels, samples = image.sizes.get("C", 1), image.sizes.get("S", 1)
    names = ["C"] * channels
    if "C" in image.coords:
        names = [re.sub(r" \(\d+\)$", "", str(name)) for name in np.atleast_1d(image.C.values)]
    if "S" in image.coords:
        names = [f"{name} {sample}" for name in names for sample in image.S.values]
    elif "S" in image.dims:
        names = [name for name in names for _ in range(samples)]
    order = list(range(len(names)))
    last_words = [name.split(" ")[-1] for name in names]
    for first in range(len(names) - 2):
        if last_words[first : first + 3] == ["Red", "Green", "Blue"]:
            order[first : first + 3] = first + 2, first + 1, first
        # Blue first is the stored order, which may be shown under its own names.
    return order


def problems_of_coordinates(ds: xr.Dataset) -> Iterator[str]:
    image = ds.image
    for name, coordinate in ds.coords.items():
        if not set(coordinate.dims) <= set(image.dims):
            yield f"coordinates: {name} is along {coordinate.dims}"
    for name in map(str, image.dims):
        if name not in ds.coords:
            # Steps of a loop of an unknown kind may be without labels.
            if not name.startswith("U"):
                yield f"coordinates: {name} has no labels"
            continue
        values = ds[name].values
        if name[0] in "TZYX":
            if values.dtype.kind not in "fiu":
                yield f"coordinates: {name} has labels of {values.dtype}"
                continue
            steps = np.diff(values)
            if not np.isfinite(values).all():
                yield f"coordinates: {name} is not finite"
            elif not ((steps > 0).all() or (name[0] == "Z" and (steps < 0).all())):
                yield f"coordinates: {name} is not monotonic"
            elif name[0] != "Z" and values[0] != 0:
                yield f"coordinates: {name} does not start at 0"
        if name[0] in "CPS":
            if not all(isinstance(label, str) for label in values.tolist()):
                yield f"coordinates: {name} is no text"
            if len(set(values.tolist())) < len(values):
                yield f"coordinates: {name} is not distinct"


def problems_of_attributes(ds: xr.Dataset) -> Iterator[str]:
    everything = {"the dataset": ds.attrs, "image": ds.image.attrs}
    everything |= {str(name): coordinate.attrs for name, coordinate in ds.coords.items()}
    for owner, attrs in everything.items():
        for name, value in attrs.items():
            items = value if type(value) is list else [value]
            if not all(type(item) in (str, int, float, bool) for item in items):
                yield f"attributes: {name} of {owner} is no plain value: {value!r}"
            elif not all(math.isfinite(item) for item in items if type(item) is float):
                yield f"attributes: {name} of {owner} is not finite, which JSON has not"
    try:
        json.loads(ds.attrs.get("nd2_metadata", "{}"), parse_constant=_refuse_constant)
    except ValueError as error:
        yield f"attributes: nd2_metadata is no JSON: {error}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has {name}")


def problems_of_warnings(
    variant: Variant, caught: list[Warning | str], ds: xr.Dataset, intact: Intact
) -> Iterator[str]:
    if len(caught) > MAX_WARNINGS:
        yield f"warnings: {len(caught)} of them: {list(map(str, caught))}"
    for message in caught:
        if not isinstance(message, UserWarning):
            yield f"warnings: {type(message).__name__}: {message}"
        elif SOURCE not in str(message):
            yield f"warnings: the file is not named: {message}"
    if caught:
        return
    if variant.must_warn:
        yield "warnings: none, of a part that is certainly damaged"
    if intact.dataset is not None and variant.damage not in PLAUSIBLE_VALUES:
        before, after = loop_sizes(intact.dataset.image), loop_sizes(ds.image)
        if before != after:
            yield f"warnings: none, though {before} became {after}"


def problems_of_other_parts(variant: Variant, ds: xr.Dataset, intact: xr.Dataset) -> Iterator[str]:
    """What has nothing to do with the damaged part stays."""
    loops = loop_sizes(intact.image)
    if variant.part != EXPERIMENT and loops != loop_sizes(ds.image):
        yield f"other parts: {loops} became {loop_sizes(ds.image)}"
        return
    channels = {dim: n for dim, n in intact.image.sizes.items() if dim in ("C", "S")}
    if variant.part != PICTURE and channels != {
        dim: n for dim, n in ds.image.sizes.items() if dim in ("C", "S")
    }:
        yield f"other parts: {channels} became {dict(ds.image.sizes)}"
        return
    parts = PARTS_OF_COORDINATE_WITH_POSITIONS if "P" in loops else PARTS_OF_COORDINATE
    for name in sorted(map(str, {*intact.coords, *ds.coords})):
        # A second loop of one kind has a number, as have its labels.
        owners = parts.get(name) or parts.get(re.sub(r"\d+$", "", name))
        if owners is None:
            yield f"other parts: it is not known which the coordinate {name} belongs to"
        elif variant.part in owners:
            continue
        elif name not in ds.coords or name not in intact.coords:
            yield f"other parts: {name} {'came' if name in ds.coords else 'went'}"
        elif not ds[name].variable.identical(intact[name].variable):
            yield f"other parts: {name} changed"
    for owner, after, before in (
        ("the dataset", ds.attrs, intact.attrs),
        ("image", ds.image.attrs, intact.image.attrs),
    ):
        yield from _changed_attributes(variant.part, owner, after, before)


def _changed_attributes(
    part: str, owner: str, after: Mapping[str, Any], before: Mapping[str, Any]
) -> Iterator[str]:
    for name in sorted(
        {*after, *before} - {"file_bytes"}
    ):  # which differs wherever a file is damaged
        owners = PARTS_OF_ATTRIBUTE.get(name)
        if owners is None:
            yield f"other parts: it is not known which the attribute {name} belongs to"
        elif part not in owners and after.get(name) != before.get(name):
            yield f"other parts: {name} of {owner} changed"
        elif part == NOTHING and after.get(name) != before.get(name):
            yield f"opening: {name} of {owner} differs the second time"
