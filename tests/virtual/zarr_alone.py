"""Reads virtual Zarr in a process that has neither this package nor nd2: ``zarr_alone.py FOLDER``.

The folder has ``cases.json``, a list of how each array is stored and of the file with its pixels, and
the icechunk repository ``repo``. What differs is printed as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def repository(folder: Path) -> Any:
    import icechunk

    prefixes = json.loads((folder / "prefixes.json").read_text("utf-8"))
    return icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(folder / "repo")),
        authorize_virtual_chunk_access=dict.fromkeys(
            prefixes, icechunk.credentials.LocalFileSystemAccess
        ),
    )


def reference_store(path: Path) -> Any:
    import fsspec
    from zarr.storage import FsspecStore

    references = fsspec.filesystem(
        "reference", fo=str(path), asynchronous=True, remote_options={"asynchronous": True}
    )
    return FsspecStore(references, read_only=True, path="")


def difference(array: Any, expected: Any) -> str | None:
    """In what an array is not what was expected, whole or along its last rows and columns."""
    if (array.shape, array.dtype) != (expected.shape, expected.dtype):
        return f"{array.shape} {array.dtype}, not {expected.shape} {expected.dtype}"
    if not np.array_equal(array[...], expected, equal_nan=expected.dtype.kind == "f"):
        return "other pixels"
    edge = tuple(slice(max(0, size - 3), size) for size in expected.shape)
    same = np.array_equal(array[edge], expected[edge], equal_nan=expected.dtype.kind == "f")
    return None if same else "other pixels at the edge"


def main(folder: Path) -> dict[str, str]:
    import zarr

    found: dict[str, str] = {}
    store = repository(folder).readonly_session("main").store
    for case in json.loads((folder / "cases.json").read_text("utf-8")):
        if case["kind"] == "icechunk":
            group = zarr.open_group(store, path=case["name"], mode="r")
        else:
            references = reference_store(folder / case["references"])
            group = zarr.open_group(references, mode="r", zarr_format=case["zarr_format"])
        expected = np.load(folder / case["pixels"])
        wrong = difference(group["image"], expected)
        if wrong:
            found[f"{case['name']} {case['kind']} {case.get('zarr_format', '')}"] = wrong
    return found


if __name__ == "__main__":
    for absent in ("xarray_nd2", "nd2", "xarray", "virtualizarr"):
        sys.modules[absent] = None  # type: ignore[assignment]  # so importing it fails
    print(json.dumps(main(Path(sys.argv[1]))))
