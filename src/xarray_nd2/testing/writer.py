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
from xarray_nd2.testing.channel import Channel
from xarray_nd2.testing.checks import raise_unless, raise_unless_one_of
from xarray_nd2.testing.chunks import ChunkWriter
from xarray_nd2.testing.events import event_chunk
from xarray_nd2.testing.experiment import experiment
from xarray_nd2.testing.image import checked_image, stored_components, stored_frames
from xarray_nd2.testing.levels import Levels, append_levels, stored_levels
from xarray_nd2.testing.masks import mask_chunks
from xarray_nd2.testing.metadata import attributes
from xarray_nd2.testing.metadata import text_info as text_info_tree
from xarray_nd2.testing.picture import julian_date, picture
from xarray_nd2.testing.recorded import recorded_chunks
from xarray_nd2.testing.rois import roi_chunk
from xarray_nd2.testing.run import Run
from xarray_nd2.testing.variant import lite_variant, variant_xml
from xarray_nd2.testing.wells import Plate, well_chunks

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from xarray_nd2.testing.events import Event
    from xarray_nd2.testing.experiment import Period, Point
    from xarray_nd2.testing.image import Image
    from xarray_nd2.testing.masks import MaskLayer
    from xarray_nd2.testing.recorded import ColumnValues, RecordedColumn
    from xarray_nd2.testing.rois import Roi
    from xarray_nd2.testing.run import OfLoops
    from xarray_nd2.testing.variant import Tree
    from xarray_nd2.testing.wells import Well

__all__ = ["write_nd2"]

_FRAME_TIME_MS = struct.Struct("<d")  # before the pixels of each frame


def write_nd2(
    file: str | os.PathLike[str] | BinaryIO,
    data: ArrayLike | Callable[[int], ArrayLike],
    dims: str | Sequence[str],
    *,
    sizes: Mapping[str, int] | None = None,
    dtype: DTypeLike | None = None,
    channels: Sequence[str | Channel] | None = None,
    pixel_size: float | None = 0.5,
    camera_to_stage: Sequence[float] | None = None,
    z_step: OfLoops[float] = 1.0,
    z_home: OfLoops[int] | None = None,
    period: OfLoops[float] = 1.0,
    average_period: OfLoops[float] | None = None,
    periods: OfLoops[Sequence[Period]] | None = None,
    positions: OfLoops[Sequence[str]] | None = None,
    stage_positions: OfLoops[Sequence[Point]] | None = None,
    use_point_z: bool = True,
    skipped_points: Sequence[int] = (),
    loop_kinds: Mapping[str, int] | None = None,
    planned: Mapping[str, int] | None = None,
    start: str | dt.datetime | np.datetime64 | None = None,
    timestamps: Sequence[float] | NDArray[Any] | None = None,
    recorded: Mapping[str, RecordedColumn | ColumnValues] | None = None,
    events: Sequence[Event] | None = None,
    rois: Sequence[Roi] | None = None,
    masks: Sequence[MaskLayer] = (),
    bits_significant: int | None = None,
    text_info: Mapping[str, str] | None = None,
    row_alignment: int = 4,
    compression: Literal["lossless", "lossy"] | None = None,
    compression_level: int = 6,
    missing: Sequence[int] = (),
    levels: Levels | int = 0,
    wells: Plate | Sequence[Well | str] | None = None,
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
    dims : str or sequence of str
        Any of the loops T, P, Z and U (of a custom kind) in the order of their nesting (the
        outermost first), then optionally C, then Y and X, then optionally S: Red, Green, Blue(,
        Alpha), which are stored as Blue, Green, Red(, Alpha). A second loop of a kind is called
        ``"T2"``, ``"P2"``…
    sizes : mapping of str to int, optional
        Size of each of `dims`, in that order. Needed with a callable.
    dtype : dtype_like, optional
        Unsigned or signed integers of 8, 16 or 32 bits or floats of 16, 32 or 64 bits, stored
        little-endian. Needed with a callable; that of an array may only be confirmed.
    channels : sequence of str or Channel, optional
        One for each channel; ``Ch0``, ``Ch1``… unless given. A channel of several components takes
        as many positions of C.
    pixel_size : float, optional
        Height and width of a pixel in µm; None for an image that is not calibrated.
    camera_to_stage : sequence of float, optional
        The four numbers of the matrix, row by row. Version 2 has it only once for the whole file.
    z_step : float, optional
        Distance of planes in µm; negative for a stack from top to bottom. This and all that is
        said of loops below may be a mapping where there are several of a kind, e.g.
        ``{"Z": 1.0, "Z2": 50.0}``; otherwise it is said of the outermost one.
    z_home : int, optional
        Number of the home plane; ``(count - 1) // 2`` unless given.
    period : float, optional
        Seconds from one time to the next, as planned.
    average_period : float, optional
        The same as run; as planned unless given.
    periods : sequence of (count, period[, average period]), optional
        Runs of times that each have their own period, instead of `period`.
    positions : sequence of str, optional
        Name of each position of the P loop.
    stage_positions : sequence of (x, y, z), optional
        Place of each position in µm; a single one if there is no P loop. In a stack, z is that of
        the home plane.
    use_point_z : bool, optional
        Whether the positions set Z. Where they do not, it is known of the first frame only.
    skipped_points : sequence of int, optional
        Positions of the first P loop that were planned and not visited. `positions` and
        `stage_positions` have them, `data` has not.
    loop_kinds : mapping of str to int, optional
        The vendor's type code for a loop, such as 3, 5 or 9; of such loops no more is written than
        how often they ran.
    planned : mapping of str to int, optional
        What the experiment says of the size of a loop, where `data` has another. All that
        is said of the loop is of this size.
    start : str, datetime.datetime or numpy.datetime64, optional
        When the first frame was taken, in UTC unless it says otherwise.
    timestamps : sequence of float, optional
        Seconds at which each frame was taken, missing ones too. Without them the file has no
        table of times, and zero before the pixels of each frame.
    recorded : mapping of str to sequence, optional
        Recorded data: columns of one value a frame by their ID, such as ``X``, ``Y`` and ``Z`` for
        the stage in µm. They are stored as 64-bit floats, 32-bit integers or texts, as given.
    events : sequence of Event, optional
        What happened during the experiment.
    rois : sequence of Roi, optional
        Regions of interest. An empty list is what NIS-Elements writes of an image without any.
    masks : sequence of MaskLayer, optional
        Layers of masks.
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
    levels : Levels or int, optional
        Levels of an embedded pyramid, as many as the format has for an image of this size.
    wells : Plate or sequence, optional
        The well of each position of the first P loop, by its name or as a `Well`; a single one if
        there is no P loop.
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
    raise_unless_one_of("version", version, [(3, 0), (2, 1)])
    raise_unless_one_of("compression", compression, [None, "lossless", "lossy"])
    raise_unless_one_of("metadata_at", metadata_at, ["start", "end"])
    raise_unless_one_of("map_order", map_order, ["reversed", "sequence"])
    raise_unless(
        pixel_size is None or pixel_size > 0, f"pixel_size must be positive, not {pixel_size}"
    )
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
    described = _described_channels(channels, image)
    components = [c.components * image.sample_count for c in described]
    run = Run(
        sizes=image.sizes,
        planned=planned or {},
        kinds=loop_kinds or {},
        z_step=z_step,
        z_home=z_home,
        period=period,
        average_period=average_period,
        periods=periods,
        positions=positions,
        stage_positions=stage_positions,
        use_point_z=use_point_z,
        skipped_points=skipped_points,
    )
    loops = run.loops()
    lite = version >= (3, 0)

    def encoded(chunk: str, root: str, tree: Tree) -> dict[str, bytes]:
        if lite:
            return {chunk.format("LV"): lite_variant({root: tree})}
        return {chunk.format(""): variant_xml(tree)}

    picture_chunk = encoded(
        "ImageMetadataSeq{}|0!",
        "SLxPictureMetadata",
        picture(
            described,
            samples=image.sample_count,
            pixel_size=pixel_size,
            stage=run.first_place(),
            start_julian_date=julian_date(start),
            time_ms=float(times[0]),
            camera_to_stage=camera_to_stage,
            matrix_of_samples=lite,
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
    if recorded is not None:
        last |= recorded_chunks(recorded, image.frame_count)
    last |= event_chunk(events, lite=lite)
    last |= roi_chunk(rois, (image.sizes["Y"], image.sizes["X"]), lite=lite)
    last |= mask_chunks(masks, image.frame_count, image.sizes["Y"], image.sizes["X"])
    last |= well_chunks(wells, image.sizes)
    pyramid = stored_levels(image, levels, stored_components(components), absent)
    before, after = (
        (first, last | attributes_chunk)
        if metadata_at == "start"
        else (attributes_chunk, first | last)
    )

    with _opened_for_writing(file) as sink:
        chunks = ChunkWriter(sink, version)
        for name, content in before.items():
            chunks.append(name, content)
        for i, frame in stored_frames(
            image, stored_components(components), row_stride, compression, compression_level, absent
        ):
            chunks.append(
                frame_name(i).decode(), _FRAME_TIME_MS.pack(times[i]), frame, name_area=name_area
            )
            append_levels(chunks, pyramid, i)
        for name, content in after.items():
            chunks.append(name, content)
        chunks.finish(by_name=map_order == "reversed")


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
    described = [c if isinstance(c, Channel) else Channel(c) for c in channels]
    count = sum(c.components for c in described)
    raise_unless(
        count == image.channel_count,
        f"{count} channels are described, the image has {image.channel_count}",
    )
    raise_unless(
        image.sample_count == 1 or count == len(described),
        "channels have several components, and the image has an S axis",
    )
    return described


def _frame_times_ms(timestamps: Sequence[float] | NDArray[Any] | None, frames: int) -> NDArray[Any]:
    """Milliseconds of each frame, float64 of shape (frames,); zeros without timestamps."""
    if timestamps is None:
        return np.zeros(frames)
    seconds = np.asarray(timestamps, "<f8")
    raise_unless(
        seconds.shape == (frames,), f"timestamps have shape {seconds.shape}, frames: {frames}"
    )
    return (seconds * 1000.0).astype("<f8")
