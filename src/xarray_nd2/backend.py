"""The xarray backend: ``xr.open_dataset(url, engine="nd2")``."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import xarray as xr
from xarray.backends import BackendEntrypoint
from xarray.core import indexing

from xarray_nd2.array import ND2BackendArray
from xarray_nd2.errors import ND2ChangedError
from xarray_nd2.format.container import CHUNK_HEADER, starts_like_chunk
from xarray_nd2.format.layout import MISSING_OFFSET
from xarray_nd2.guard import CROPS_READ_MORE, REGIONS_ARE_SLOW, going_on_without, warn_user
from xarray_nd2.io.patience import PATIENCE_SECONDS
from xarray_nd2.io.process import MAX_CONCURRENCY
from xarray_nd2.io.source import ByteSource
from xarray_nd2.io.urls import file_name, looks_like_nd2
from xarray_nd2.memory import keep_in_memory
from xarray_nd2.open.opening import open_nd2
from xarray_nd2.read.blocks import preferred_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xarray_nd2.open.opening import OpenedFile

MissingFrames = Literal["zeros", "raise"]


class ND2BackendEntrypoint(BackendEntrypoint):
    """Open Nikon ND2 files, local or in any store that fsspec reaches, as lazy labelled images."""

    description: ClassVar[str] = "Nikon ND2 microscopy files, local or remote, read by byte ranges"
    url: ClassVar[str] = "https://github.com/xarray-nd2/xarray-nd2"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        "storage_options",
        "max_gap",
        "max_concurrency",
        "patience_seconds",
        "missing_frames",
        "version",
        "rescue",
    )

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        max_gap: int | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        patience_seconds: float = PATIENCE_SECONDS,
        missing_frames: MissingFrames = "zeros",
        version: str | None = None,
        rescue: bool = False,
    ) -> xr.Dataset:
        """Open an ND2 file as a dataset with the one data variable ``image``.

        Parameters
        ----------
        filename_or_obj : str, os.PathLike, UPath, fsspec OpenFile, or open binary file
            A local path or the URL of any fsspec protocol; URLs may be chained.
        drop_variables : str or iterable of str, optional
            Variables or coordinates to leave out.
        storage_options : mapping, optional
            Options of the URL's filesystem, such as credentials; they go to workers with the
            array and are never shown.
        max_gap : int, optional
            Read up to this many unneeded bytes rather than make another request; 0 fetches
            exactly the needed bytes. By default what is estimated to be fastest.
        max_concurrency : int, default 64
            Requests in flight.
        patience_seconds : float, default 90
            Give up a range of a remote file after so long without sufficient progress, whether the
            store refuses, breaks off, trickles or is silent.
        missing_frames : {"zeros", "raise"}
            What a frame that is absent from the file's map reads as. With "zeros" the coordinate
            ``frame_valid`` is False for it, and a warning is given once.
        version : str, optional
            Entity tag that the object must have; it also makes the names of dask's tasks distinct,
            so that a changed object is not taken for the one before.
        rescue : bool, default False
            Open what is left of a file that lost its end, such as one whose acquisition was cut
            short: its chunks are looked for from the start. Frames that are not found are missing.
            What was lost is told in a warning and in the attribute ``rescued``.

        Returns
        -------
        xarray.Dataset
            Variable ``image`` with dimensions for the loops in the order of the file (T, P, Z, and
            U for any other), then C, Y, X, and S of colour: red, green, blue(, alpha); dtype as
            stored. Its coordinates are in memory.

        Warns
        -----
        UserWarning
            Frames are missing, or some of the metadata is odd or damaged: what it says is left out,
            and its labels are neutral.

        Raises
        ------
        ND2FormatError
            Not an ND2 file, or a truncated or corrupt one.
        ND2UnsupportedError
            A legacy file, or one with lossy compression.
        ND2SourceError
            The file cannot be read; as `ND2NotFoundError` if there is none, and as
            `ND2PermissionError` if access to it was refused.
        ND2ChangedError
            The object does not have the entity tag `version`.
        TypeError, ValueError
            A keyword is not what it may be, or a file is open as text or through a compression.
        """
        if missing_frames not in get_args(MissingFrames):
            raise ValueError(f"missing_frames must be 'zeros' or 'raise', not {missing_frames!r}")
        if max_gap is not None and operator.index(max_gap) < 0:
            raise ValueError(f"max_gap must be None or at least 0, not {max_gap}")
        if operator.index(max_concurrency) < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {max_concurrency}")
        if type(patience_seconds) not in (int, float) or not 0 < patience_seconds < 1e9:
            raise ValueError(
                f"patience_seconds must be above 0 and finite, not {patience_seconds!r}"
            )
        if not isinstance(version, (str, type(None))):
            raise TypeError(f"version must be an entity tag, not {type(version).__name__}")
        with going_on_without(CROPS_READ_MORE):
            from xarray_nd2.dask.register import register

            register()
        source = ByteSource.of(filename_or_obj, storage_options, float(patience_seconds))
        opened = open_nd2(source, rescue=rescue)
        _require_version(opened.source, version)
        array = ND2BackendArray(
            opened.source, opened.layout, max_gap, max_concurrency, missing_frames
        )
        dataset = _dataset(opened, array)
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        return keep_in_memory(dataset.drop_vars(dropped & set(dataset.variables)))

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether this looks like an ND2: by its name, or an open file by how it starts."""
        if isinstance(filename_or_obj, (str, os.PathLike)):
            return looks_like_nd2(os.fspath(filename_or_obj))
        path = getattr(filename_or_obj, "path", None)
        if isinstance(path, str):
            return looks_like_nd2(path)
        if hasattr(filename_or_obj, "seek") and hasattr(filename_or_obj, "read"):
            position = filename_or_obj.tell()
            filename_or_obj.seek(0)
            start = filename_or_obj.read(CHUNK_HEADER.size)
            filename_or_obj.seek(position)
            return starts_like_chunk(start)
        return False


def _require_version(source: ByteSource, version: str | None) -> None:
    tag = source.facts.version if source.facts else None
    if version is not None and version.removeprefix("W/").strip('"') != (tag or "").strip('"'):
        raise ND2ChangedError(
            f"version {version} was asked for, but the object is tagged {tag}", source.name
        )


def _dataset(opened: OpenedFile, array: ND2BackendArray) -> xr.Dataset:
    layout, metadata = opened.layout, opened.metadata
    image = xr.Variable(
        layout.dims,
        _lazy(array),
        attrs=metadata.image_attrs,
        encoding={"preferred_chunks": preferred_blocks(layout)},
    )
    coordinates = dict(metadata.coordinates)
    missing = layout.offsets.values() == MISSING_OFFSET
    if missing.any():
        what = "read as zeros" if array.missing_frames == "zeros" else "cannot be read"
        warn_user(
            f"{opened.source.name}: {np.count_nonzero(missing)} of {layout.frame_count} frames are not in the file "
            f"and {what}; see the coordinate frame_valid",
        )
        coordinates["frame_valid"] = (
            tuple(name for name, _ in layout.loops),
            ~missing.reshape(layout.loop_shape),
            {"long_name": "whether the file has the frame"},
        )
    name = opened.source.name
    attrs: dict[str, Any] = {
        "title": file_name(name),
        "source": name,
        "file_bytes": opened.source.size,
    }
    if opened.rescued:
        attrs["rescued"] = opened.rescued
        warn_user(f"{opened.source.name}: {opened.rescued}")
    if opened.oddities:
        warn_user(f"{opened.source.name}: some of the metadata is odd: {opened.oddities}")
    dataset = xr.Dataset(
        {"image": image},
        coords=coordinates,
        attrs=attrs | metadata.file_attrs,
    )
    # Set here so that xarray does not put a signed URL there.
    dataset.encoding["source"] = opened.source.name
    return dataset


def _lazy(array: ND2BackendArray) -> indexing.LazilyIndexedArray:
    lazy = indexing.LazilyIndexedArray
    with going_on_without(REGIONS_ARE_SLOW):
        from xarray_nd2.lazy_chain import LazyImage as lazy  # noqa: N813
    return lazy(array)
