"""``open_many``: files opened together, as one image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from xarray_nd2.errors import ND2Error
from xarray_nd2.guard import holding_warnings, warn_user
from xarray_nd2.io.listing import matching_files
from xarray_nd2.io.patience import PATIENCE_SECONDS
from xarray_nd2.io.process import MAX_CONCURRENCY, start_read_thread
from xarray_nd2.io.targets import named_target
from xarray_nd2.many.continuing import continued
from xarray_nd2.many.file_image import FileImage, short_names
from xarray_nd2.many.fitting import check_fit
from xarray_nd2.many.joining import join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from xarray_nd2.datasets import MissingFrames
    from xarray_nd2.guard import Held

MAX_OPENING_FILES: Final = 32  # at a time; each makes a few requests at once


def open_many(
    targets: Any,
    dim: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
    chunks: Any = {},  # noqa: B006  (as xarray has it, and never changed)
    drop_variables: str | Iterable[str] | None = None,
    max_gap: int | None = None,
    max_concurrency: int = MAX_CONCURRENCY,
    patience_seconds: float = PATIENCE_SECONDS,
    missing_frames: MissingFrames = "zeros",
    rescue: bool = False,
) -> xr.Dataset:
    """Open many ND2 files as one image, joined along one dimension.

    All files are opened at the same time, and nothing but metadata is read. Files that do not fit
    together are refused: no label is aligned, and no value dropped or filled in between.

    Parameters
    ----------
    targets : str, or iterable of what `xarray.open_dataset` takes
        A text is a pattern (``*``, ``**``, ``?``, ``[…]``) on a disk or in any store that can list, the
        files sorted by name with numbers in order; without wildcards it is one file. What is in a list is
        taken as it is, in the order of the list.
    dim : str
        A loop of the files to go on with (``"T"``, ``"P"``, ``"Z"``), or their channels (``"C"``); any
        other name is a new dimension, whose labels are the names of the files. Along ``"T"`` the
        files are in the order of their dates.
    storage_options : mapping, optional
        Options of the filesystem of all URLs.
    chunks : int, mapping or "auto", default {}
        Blocks of dask within each file, as of `xarray.open_dataset`.
    drop_variables : str or iterable of str, optional
        Variables or coordinates to leave out of the result.
    max_gap, max_concurrency, patience_seconds, missing_frames, rescue
        As of `xarray.open_dataset` with this engine, for each file.

    Returns
    -------
    xarray.Dataset
        As of one file, with a coordinate ``file`` along `dim`. Labels along the other dimensions
        are those of the first file; all other coordinates that differ between files are along
        `dim`. Attributes that differ are left out, but for ``start``, which is the earliest.

    Warns
    -----
    UserWarning
        What the opening of each file warns of.

    Raises
    ------
    ValueError
        A file does not fit the first, and how; files overlap along T or Z, or one has no date; or a
        keyword is not what it may be.
    ND2NotFoundError
        Nothing matches the pattern.
    ND2Error
        A file cannot be opened. The first such error ends the opening of all.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from xarray_nd2.testing import write_nd2
    >>> folder = tempfile.mkdtemp()
    >>> for i in (9, 10):
    ...     write_nd2(f"{folder}/well{i}.nd2", np.full((8, 8), i, "uint16"), "YX")
    >>> wells = open_many(f"{folder}/well*.nd2", "well")
    >>> wells.image[:, 0, 0, 0].values.tolist(), wells["well"].values.tolist()
    ([9, 10], ['well9.nd2', 'well10.nd2'])
    """
    if not isinstance(dim, str) or not dim:
        raise TypeError(f"dim must be the name of a dimension, not {dim!r}")
    if chunks is None:
        raise ValueError(
            "chunks must not be None: only arrays of dask can be joined without reading"
        )
    files = _named_files(targets, storage_options or {})
    keywords: dict[str, Any] = {
        "storage_options": storage_options,
        "chunks": chunks,
        "max_gap": max_gap,
        "max_concurrency": max_concurrency,
        "patience_seconds": patience_seconds,
        "missing_frames": missing_frames,
        "rescue": rescue,
        "create_default_indexes": False,  # the backend has made them
    }
    datasets = _opened_together(files, keywords)
    names = short_names(
        [dataset.attrs["title"] for dataset in datasets],
        [dataset.attrs["source"] for dataset in datasets],
    )
    images = [FileImage.of(*each) for each in zip(names, datasets, strict=True)]
    check_fit(images, dim)
    joined = join(continued(images, dim), dim)
    dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
    return joined.drop_vars(dropped & set(joined.variables))


def _named_files(targets: Any, storage_options: Mapping[str, Any]) -> list[Any]:
    """All that is to be opened, in its order."""
    if isinstance(targets, str):
        return list(matching_files(targets, storage_options))
    is_file = isinstance(targets, (os.PathLike, bytes, bytearray, memoryview)) or any(
        hasattr(targets, name) for name in ("read", "fs")
    )
    if is_file:
        return [targets]
    if not isinstance(targets, Iterable):
        raise TypeError(f"targets must be a pattern or a list, not {type(targets).__name__}")
    files = list(targets)
    if not files:
        raise ValueError("there is no file in the list")
    return files


def _opened_together(files: Sequence[Any], keywords: Mapping[str, Any]) -> list[xr.Dataset]:
    """Datasets of files that are opened at the same time, some of them."""
    opened: dict[int, tuple[xr.Dataset, Held]] = {}
    waiting = iter(enumerate(files))
    running: dict[Future[tuple[xr.Dataset, Held]], int] = {}
    while len(opened) < len(files):
        while len(running) < MAX_OPENING_FILES and (following := next(waiting, None)):
            index, file = following
            running[start_read_thread(_open, file, keywords)] = index
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for each in done:
            # The first error ends it: what is running is left behind, and no more is begun.
            opened[running.pop(each)] = each.result()
    datasets = []
    for _, (dataset, held) in sorted(opened.items(), key=lambda item: item[0]):
        for message, category in held:
            warn_user(message, category)
        datasets.append(dataset)
    return datasets


def _open(file: Any, keywords: Mapping[str, Any]) -> tuple[xr.Dataset, Held]:
    """Open one file, in a thread."""
    try:
        with holding_warnings() as held:
            return xr.open_dataset(file, engine="nd2", **keywords), held
    except ND2Error:
        raise
    except Exception as error:
        with suppress(TypeError, ValueError):  # of what names no file
            error.add_note(f"while opening {named_target(file)[0]}")
        raise
