"""The xarray backend: ``xr.open_dataset(url, engine="nd2")``."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args

import xarray as xr
from xarray.backends import BackendEntrypoint

from xarray_nd2.datasets import (
    MissingFrames,
    ReadOptions,
    group_dataset,
    image_dataset,
    root_dataset,
    warn_of_opening,
)
from xarray_nd2.errors import ND2ChangedError, ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.container import CHUNK_HEADER, starts_like_chunk
from xarray_nd2.guard import CROPS_READ_MORE, going_on_without, warn_user
from xarray_nd2.io.failures import named_errors
from xarray_nd2.io.patience import PATIENCE_SECONDS
from xarray_nd2.io.process import MAX_CONCURRENCY
from xarray_nd2.io.source import ByteSource
from xarray_nd2.io.urls import looks_like_nd2
from xarray_nd2.keeping.disk_cache import DEFAULT_DISK_CACHE_BYTES, DiskCache
from xarray_nd2.keeping.whole_frames import Keeping
from xarray_nd2.memory import keep_in_memory
from xarray_nd2.open.groups import IMAGE_GROUP, read_group, read_groups
from xarray_nd2.open.opening import open_nd2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xarray_nd2.open.opening import OpenedFile

ROOT_GROUP: Final = ""


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
        "group",
        "cache_bytes",
        "cache_dir",
        "cache_dir_bytes",
    )
    supports_groups: ClassVar[bool] = True

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
        group: str | None = None,
        cache_bytes: int = 0,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_dir_bytes: int = DEFAULT_DISK_CACHE_BYTES,
    ) -> xr.Dataset:
        """Open an ND2 file as a dataset with the one data variable ``image``, or one of its groups.

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
        group : str, optional
            Open what else the file has instead of the image, such as "recorded". The chunks of a
            group are read only when it is opened.
        cache_bytes : int, default 0
            Read frames whole, and keep so many bytes of those used last in this process, so that
            other crops and channels of them need no request. Files on a disk of this machine, and
            objects of which the store tells neither tag nor time, are read as without it.
        cache_dir : str or os.PathLike, optional
            Folder on a disk of the machine that reads. Frames are read whole and kept in it as files,
            for all processes of the user on that machine, also later ones, so that reading them again
            needs no request. Frames of an object that has changed since are never used. Files and
            objects that `cache_bytes` does not keep are not kept here either.
        cache_dir_bytes : int, default 64 GiB
            Bytes to keep in `cache_dir`; the frames used longest ago are deleted first.

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
            Not an ND2 file, or a truncated or corrupt one; or it has no such group, or a damaged
            one.
        ND2UnsupportedError
            A file with lossy compression, or of a kind that is not known; or the group cannot be decoded.
        ND2SourceError
            The file cannot be read; as `ND2NotFoundError` if there is none, and as
            `ND2PermissionError` if access to it was refused.
        ND2ChangedError
            The object does not have the entity tag `version`.
        TypeError, ValueError
            A keyword is not what it may be, or a file is open as text or through a compression.
        """
        opened, options = _opened(
            filename_or_obj,
            storage_options=storage_options,
            max_gap=max_gap,
            max_concurrency=max_concurrency,
            patience_seconds=patience_seconds,
            missing_frames=missing_frames,
            version=version,
            rescue=rescue,
            cache_bytes=cache_bytes,
            cache_dir=cache_dir,
            cache_dir_bytes=cache_dir_bytes,
        )
        warn_of_opening(opened)
        name = _group_name(group)
        if name == IMAGE_GROUP:
            dataset = image_dataset(opened, options)
        elif name == ROOT_GROUP:
            dataset = root_dataset(opened, options)
        else:
            with named_errors(opened.source.name):
                found = read_group(opened, name)
            dataset = group_dataset(opened, options, name, found, beside_image=False)
        return _without(dataset, drop_variables)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        **keywords: Any,
    ) -> dict[str, xr.Dataset]:
        """Open an ND2 file as a dataset for each of its groups; `xarray.open_groups` calls this.

        Parameters
        ----------
        filename_or_obj : str, os.PathLike, UPath, fsspec OpenFile, or open binary file
            A local path or the URL of any fsspec protocol; URLs may be chained.
        drop_variables : str or iterable of str, optional
            Variables or coordinates of any group to leave out.
        group : str, optional
            Only this group, as the root.
        **keywords
            As of `open_dataset`.

        Returns
        -------
        dict of str to xarray.Dataset
            By path: ``/`` has the attributes of the file, ``/image`` the image, and the others what
            else the file has.

        Warns
        -----
        UserWarning
            As of `open_dataset`; also if a group is left out because it is damaged, or cannot be
            decoded.

        Raises
        ------
        ND2Error, TypeError, ValueError
            As of `open_dataset`.
        """
        if group is not None and _group_name(group) != ROOT_GROUP:
            dataset = self.open_dataset(
                filename_or_obj, drop_variables=drop_variables, group=group, **keywords
            )
            return {"/": dataset}
        if unknown := sorted(set(keywords) - set(self.open_dataset_parameters)):
            raise TypeError(f"the engine nd2 has no keyword {', '.join(unknown)}")
        opened, options = _opened(filename_or_obj, **keywords)
        warn_of_opening(opened)
        datasets = {
            "/": root_dataset(opened, options),
            f"/{IMAGE_GROUP}": image_dataset(opened, options),
        }
        with named_errors(opened.source.name):
            groups = read_groups(opened)
        for name, found in groups.items():
            if isinstance(found, (ND2FormatError, ND2UnsupportedError)):
                warn_user(f"{opened.source.name}: the group {name} is left out: {found}")
            else:
                datasets[f"/{name}"] = group_dataset(
                    opened, options, name, found, beside_image=True
                )
        return {path: _without(each, drop_variables) for path, each in datasets.items()}

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        **keywords: Any,
    ) -> xr.DataTree:
        """Open an ND2 file as a tree of its groups; `xarray.open_datatree` calls this.

        Parameters
        ----------
        filename_or_obj, drop_variables, group, **keywords
            As of `open_groups_as_dict`.

        Returns
        -------
        xarray.DataTree
            The root has the attributes of the file, its child ``image`` the image, and the other
            children what else the file has.
        """
        tree = xr.DataTree.from_dict(
            self.open_groups_as_dict(
                filename_or_obj, drop_variables=drop_variables, group=group, **keywords
            )
        )
        for node in tree.subtree:  # which have copies of the datasets' variables
            keep_in_memory(node)
        return tree

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


def _opened(
    filename_or_obj: Any,
    *,
    storage_options: Mapping[str, Any] | None = None,
    max_gap: int | None = None,
    max_concurrency: int = MAX_CONCURRENCY,
    patience_seconds: float = PATIENCE_SECONDS,
    missing_frames: MissingFrames = "zeros",
    version: str | None = None,
    rescue: bool = False,
    cache_bytes: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_dir_bytes: int = DEFAULT_DISK_CACHE_BYTES,
) -> tuple[OpenedFile, ReadOptions]:
    """Check the keywords, and open the file."""
    if missing_frames not in get_args(MissingFrames):
        raise ValueError(f"missing_frames must be 'zeros' or 'raise', not {missing_frames!r}")
    if max_gap is not None and operator.index(max_gap) < 0:
        raise ValueError(f"max_gap must be None or at least 0, not {max_gap}")
    if operator.index(cache_bytes) < 0:
        raise ValueError(f"cache_bytes must be at least 0, not {cache_bytes}")
    if operator.index(cache_dir_bytes) < 1:
        raise ValueError(f"cache_dir_bytes must be at least 1, not {cache_dir_bytes}")
    if operator.index(max_concurrency) < 1:
        raise ValueError(f"max_concurrency must be at least 1, not {max_concurrency}")
    if type(patience_seconds) not in (int, float) or not 0 < patience_seconds < 1e9:
        raise ValueError(f"patience_seconds must be above 0 and finite, not {patience_seconds!r}")
    if not isinstance(version, (str, type(None))):
        raise TypeError(f"version must be an entity tag, not {type(version).__name__}")
    with going_on_without(CROPS_READ_MORE):
        from xarray_nd2.dask.register import register

        register()
    source = ByteSource.of(filename_or_obj, storage_options, float(patience_seconds))
    opened = open_nd2(source, rescue=rescue)
    _require_version(opened.source, version)
    disk = None if cache_dir is None else DiskCache.at(cache_dir, cache_dir_bytes)
    keeping = Keeping(cache_bytes, disk)
    return opened, ReadOptions(max_gap, max_concurrency, missing_frames, keeping)


def _group_name(group: str | None) -> str:
    """Name of a group that was asked for, without slashes around it."""
    if not isinstance(group, (str, type(None))):
        raise TypeError(f"group must be a name, not {type(group).__name__}")
    return IMAGE_GROUP if group is None else group.strip("/")


def _without(dataset: xr.Dataset, variables: str | Iterable[str] | None) -> xr.Dataset:
    """A dataset without some variables, as far as it has them."""
    dropped = {variables} if isinstance(variables, str) else set(variables or ())
    dataset = dataset.drop_vars(dropped & set(dataset.variables))
    keep_in_memory(dataset)  # after all that copies its variables
    return dataset
