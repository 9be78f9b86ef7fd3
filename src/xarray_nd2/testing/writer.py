"""Write ND2 files whose every property is chosen by the caller.

Tests of a reader need files that the microscope at hand does not write: padded rows next to tight
ones, absent frames, another place for the metadata, another name area before the pixels. All that a
reader might presume is a parameter here. Frames are written one at a time, so that a file may be
larger than memory.
"""

from __future__ import annotations

import operator
import os
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from xarray_nd2.format.container import frame_name
from xarray_nd2.testing.chunks import ChunkWriter
from xarray_nd2.testing.image import (
    checked_image,
    loop_dims,
    raise_unless,
    stored_frames,
)
from xarray_nd2.testing.metadata import (
    Channel,
    attributes,
    experiment,
    periods_loop,
    picture,
    positions_loop,
    time_loop,
    z_loop,
)
from xarray_nd2.testing.metadata import text_info as text_info_tree
from xarray_nd2.testing.variant import lite_variant, variant_xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from xarray_nd2.testing.image import Image
    from xarray_nd2.testing.metadata import Loop, Point
    from xarray_nd2.testing.variant import Tree

__all__ = ["write_nd2"]

_FRAME_TIME_MS = struct.Struct("<d")  # before the pixels of each frame


def write_nd2(
    file: str | os.PathLike[str] | BinaryIO,
    data: ArrayLike | Callable[[int], ArrayLike],
    dims: str,
    *,
    sizes: Mapping[str, int] | None = None,
    dtype: DTypeLike | None = None,
    channels: Sequence[str | Channel] | None = None,
    pixel_size: float = 0.5,
    z_step: float = 1.0,
    period: float = 1.0,
    periods: Sequence[tuple[int, float]] | None = None,
    positions: Sequence[str] | None = None,
    stage_positions: Sequence[Point] | None = None,
    timestamps: Sequence[float] | NDArray[Any] | None = None,
    bits_significant: int | None = None,
    text_info: Mapping[str, str] | None = None,
    row_alignment: int = 4,
    compression: Literal["lossless", "lossy"] | None = None,
    compression_level: int = 6,
    missing: Sequence[int] = (),
    version: tuple[int, int] = (3, 0),
    metadata_at: Literal["start", "end"] = "start",
    name_area: int = 4072,
    map_order: Literal["reversed", "sequence"] = "reversed",
) -> None:
    """Write an ND2 file.

    Parameters
    ----------
    file : str, os.PathLike or binary file object
        Where to write. A file object must be at its start; it is neither sought nor closed.
    data : array_like or callable
        Pixels, one axis for each of `dims`; or ``data(i)``, the pixels of frame ``i`` with the
        axes (C, Y, X[, S]), where C may be left out if `dims` has none. Frames count along the
        loops in row-major order.
    dims : str
        Any of the loops T, P and Z in the order of their nesting (the outermost first), then
        optionally C, then Y and X, then optionally S (3 or 4 samples: RGB or RGBA).
    sizes : mapping of str to int, optional
        Size of each of `dims`, in that order. Needed with a callable.
    dtype : dtype_like, optional
        Unsigned or signed integers of 8, 16 or 32 bits or floats of 16, 32 or 64 bits, stored
        little-endian. Needed with a callable; that of an array may only be confirmed.
    channels : sequence of str or Channel, optional
        One for each channel; ``Ch0``, ``Ch1``… unless given.
    pixel_size : float, optional
        Height and width of a pixel in µm.
    z_step : float, optional
        Distance of planes in µm; negative for a stack from top to bottom.
    period : float, optional
        Seconds from one time to the next.
    periods : sequence of (count, seconds), optional
        Runs of times that each have their own period, instead of `period`.
    positions : sequence of str, optional
        Name of each position of the P loop.
    stage_positions : sequence of (x, y, z), optional
        Place of each position in µm; a single one if there is no P loop.
    timestamps : sequence of float, optional
        Seconds at which each frame was taken, missing ones too. Without them the file has no
        table of times, and zero before the pixels of each frame.
    bits_significant : int, optional
        Bits of a component that carry a value; all of them unless given.
    text_info : mapping of str to str, optional
        Texts such as ``description``, ``date`` or ``optics``, under the names that ``nd2`` gives
        them.
    row_alignment : int, optional
        Each row takes a multiple of this many bytes.
    compression : {"lossless", "lossy"}, optional
        Lossless frames are zlib streams. Lossy ones are junk in a file that calls them lossy:
        for testing that a reader refuses them.
    compression_level : int, optional
        From 0 (stored) to 9 (smallest).
    missing : sequence of int, optional
        Frames to leave out of the file and of its map.
    version : {(3, 0), (2, 1)}, optional
        Version of the container. Version 2 has its metadata in XML.
    metadata_at : {"start", "end"}, optional
        Microscopes write the experiment and the picture metadata before the frames and the
        attributes behind them, tools the other way round.
    name_area : int, optional
        Bytes for the name of a frame's chunk; its data starts 16 + `name_area` behind its offset.
    map_order : {"reversed", "sequence"}, optional
        Order of the chunk map: by name from the last to the first as microscopes do, or as the
        chunks lie in the file.

    Raises
    ------
    ValueError
        If the arguments contradict each other or the format.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> file = io.BytesIO()
    >>> write_nd2(file, np.zeros((3, 2, 8, 8), "uint16"), "TCYX", channels=["DAPI", "GFP"])
    >>> file.getvalue()[16:54]
    b'ND2 FILE SIGNATURE CHUNK NAME01!Ver3.0'
    """
    image = checked_image(data, dims, sizes, dtype)
    bits = 8 * image.dtype.itemsize
    bits_significant = bits if bits_significant is None else operator.index(bits_significant)
    absent = {operator.index(i) for i in missing}
    _raise_unless_one_of("version", version, [(3, 0), (2, 1)])
    _raise_unless_one_of("compression", compression, [None, "lossless", "lossy"])
    _raise_unless_one_of("metadata_at", metadata_at, ["start", "end"])
    _raise_unless_one_of("map_order", map_order, ["reversed", "sequence"])
    raise_unless(pixel_size > 0, f"pixel_size must be positive, not {pixel_size}")
    raise_unless(row_alignment >= 1, f"row_alignment must be at least 1, not {row_alignment}")
    raise_unless(
        0 <= compression_level <= 9, f"compression_level is {compression_level}, not 0 to 9"
    )
    raise_unless(1 <= bits_significant <= bits, f"bits_significant is {bits_significant} of {bits}")
    raise_unless(
        all(0 <= i < image.frame_count for i in absent),
        f"missing has frames that are not among 0 to {image.frame_count - 1}: {sorted(absent)}",
    )
    longest = len(frame_name(image.frame_count - 1))
    raise_unless(name_area >= longest, f"name_area must be at least {longest}, not {name_area}")

    row_stride = -(-image.row_bytes // row_alignment) * row_alignment
    times = _frame_times_ms(timestamps, image.frame_count)
    stage = _stage_points(stage_positions, image.sizes.get("P", 1))
    loops = _experiment_loops(image.sizes, period, periods, z_step, positions, stage)
    lite = version >= (3, 0)

    def encoded(chunk: str, root: str, tree: Tree) -> dict[str, bytes]:
        if lite:
            return {chunk.format("LV"): lite_variant({root: tree})}
        return {chunk.format(""): variant_xml(tree)}

    picture_chunk = encoded(
        "ImageMetadataSeq{}|0!",
        "SLxPictureMetadata",
        picture(
            _described_channels(channels, image),
            samples=image.sample_count,
            pixel_size=pixel_size,
            stage=(0.0, 0.0, 0.0) if stage is None else stage[0],
        ),
    )
    attributes_chunk = encoded(
        "ImageAttributes{}!",
        "SLxImageAttributes",
        attributes(
            shape=(image.sizes["Y"], image.sizes["X"], image.component_count),
            kind=image.dtype.kind,
            bits=bits,
            bits_significant=bits_significant,
            row_stride=row_stride,
            frames=image.frame_count,
            compression=compression,
            compression_level=compression_level,
        ),
    )
    first: dict[str, bytes] = {}
    last: dict[str, bytes] = {}
    if loops:
        first |= encoded("ImageMetadata{}!", "SLxExperiment", experiment(loops))
    first |= picture_chunk
    if text_info is not None:
        last |= encoded("ImageTextInfo{}!", "SLxImageTextInfo", text_info_tree(text_info))
    if timestamps is not None:
        last["CustomData|AcqTimesCache!"] = times.tobytes()
    before, after = (
        (first, last | attributes_chunk)
        if metadata_at == "start"
        else (attributes_chunk, first | last)
    )

    with _opened_for_writing(file) as sink:
        chunks = ChunkWriter(sink, version)
        for name, content in before.items():
            chunks.append(name, content)
        for i, frame in stored_frames(image, row_stride, compression, compression_level, absent):
            chunks.append(
                frame_name(i).decode(), _FRAME_TIME_MS.pack(times[i]), frame, name_area=name_area
            )
        for name, content in after.items():
            chunks.append(name, content)
        chunks.finish(by_name=map_order == "reversed")


def _raise_unless_one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise a ValueError unless an argument has one of the allowed values."""
    raise_unless(value in allowed, f"{name} must be one of {allowed}, not {value!r}")


@contextmanager
def _opened_for_writing(file: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    """A path opened and closed, or the file object as it is."""
    if isinstance(file, (str, os.PathLike)):
        with Path(file).open("wb") as sink:
            yield sink
    else:
        yield file


def _described_channels(channels: Sequence[str | Channel] | None, image: Image) -> list[Channel]:
    """A `Channel` for each channel of the image, numbered where none are given."""
    if channels is None:
        channels = [f"Ch{i}" for i in range(image.channel_count)]
    raise_unless(
        len(channels) == image.channel_count,
        f"{len(channels)} channels are described, the image has {image.channel_count}",
    )
    return [c if isinstance(c, Channel) else Channel(c) for c in channels]


def _frame_times_ms(timestamps: Sequence[float] | NDArray[Any] | None, frames: int) -> NDArray[Any]:
    """Milliseconds of each frame, float64 of shape (frames,); zeros without timestamps."""
    if timestamps is None:
        return np.zeros(frames)
    seconds = np.asarray(timestamps, "<f8")
    raise_unless(
        seconds.shape == (frames,), f"timestamps have shape {seconds.shape}, frames: {frames}"
    )
    return (seconds * 1000.0).astype("<f8")


def _stage_points(stage_positions: Sequence[Point] | None, count: int) -> list[Point] | None:
    """Places of the stage (x, y, z in µm), `count` of them; None where none are given."""
    if stage_positions is None:
        return None
    raise_unless(
        np.shape(stage_positions) == (count, 3),
        f"stage_positions must be {count} of (x, y, z), not {stage_positions}",
    )
    return [(float(x), float(y), float(z)) for x, y, z in stage_positions]


def _experiment_loops(
    sizes: Mapping[str, int],
    period: float,
    periods: Sequence[tuple[int, float]] | None,
    z_step: float,
    names: Sequence[str] | None,
    stage: list[Point] | None,
) -> list[Loop]:
    """Loops of the experiment, the outermost first."""
    raise_unless(z_step != 0, "z_step must not be 0")
    raise_unless(names is None or "P" in sizes, "positions are named, dims have no P")
    raise_unless(periods is None or "T" in sizes, "periods are given, dims have no T")
    raise_unless(min([period, *(s for _, s in periods or ())]) >= 0, "a period cannot be negative")
    loops: dict[str, Loop] = {}
    if "T" in sizes:
        counts = [sizes["T"]] if periods is None else [operator.index(n) for n, _ in periods]
        raise_unless(
            sum(counts) == sizes["T"] and min(counts) >= 1,
            f"periods have {counts} times, T is {sizes['T']}",
        )
        loops["T"] = (
            time_loop(sizes["T"], period)
            if periods is None
            else periods_loop([(n, s) for n, (_, s) in zip(counts, periods, strict=True)])
        )
    if "Z" in sizes:
        loops["Z"] = z_loop(sizes["Z"], z_step)
    if "P" in sizes:
        count = sizes["P"]
        names = [""] * count if names is None else names
        raise_unless(len(names) == count, f"positions have {len(names)} names, P is {count}")
        places = [(0.0, 0.0, 0.0)] * count if stage is None else stage
        loops["P"] = positions_loop(names, places, use_z=stage is not None)
    return [loops[dim] for dim in loop_dims(sizes)]
