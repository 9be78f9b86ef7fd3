"""What the tests of virtual Zarr share."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import xarray_nd2.virtual
from tests.conftest import corpus_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEEDS_VIRTUALIZARR = "needs VirtualiZarr, and so Python 3.12 or later: pip install virtualizarr"
WITHOUT_US = Path(__file__).with_name("zarr_alone.py")


def local_registry() -> Any:
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore

    return ObjectStoreRegistry({"file://": LocalStore()})


def virtual_dataset(path: Path, **options: Any) -> Any:
    """The virtual dataset of a file, its labels in memory."""
    import virtualizarr

    registry = local_registry()
    with warnings.catch_warnings():
        # Zarr has no specification of numcodecs.zlib, and VirtualiZarr tells of padded rows.
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in")
        warnings.filterwarnings("ignore", ".*have a chunk shape larger than")
        warnings.filterwarnings("ignore", ".*frames are not in the file|.*metadata is odd")
        parser = xarray_nd2.virtual.ND2Parser(**options)
        return virtualizarr.open_virtual_dataset(path.as_uri(), registry, parser)


class WrittenFiles:
    """Virtual files in one folder, for a process without this package to read."""

    def __init__(self, folder: Path) -> None:
        import icechunk

        self.folder = folder
        self.cases: list[dict[str, Any]] = []
        config = icechunk.RepositoryConfig.default()
        corpus = corpus_directory()
        roots = [folder.parent, *([corpus.resolve()] if corpus else [])]
        prefixes = [f"{root.as_uri()}/" for root in roots]
        for root, prefix in zip(roots, prefixes, strict=True):
            container = icechunk.local_filesystem_store(str(root))
            config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, container))
        (folder / "prefixes.json").write_text(json.dumps(prefixes), "utf-8")
        self.repository = icechunk.Repository.create(
            icechunk.local_filesystem_storage(str(folder / "repo")),
            config=config,
            authorize_virtual_chunk_access=dict.fromkeys(
                prefixes, icechunk.credentials.LocalFileSystemAccess
            ),
        )
        self.session = self.repository.writable_session("main")

    def add(self, name: str, path: Path, pixels: NDArray[Any], **options: Any) -> None:
        """Write a file in all ways; `pixels` have the dimensions of the image as labelled."""
        np.save(self.folder / f"{name}.npy", pixels)
        image = {"name": name, "pixels": f"{name}.npy"}
        dataset = virtual_dataset(path, **options)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Numcodecs codecs are not in")
            dataset.vz.to_icechunk(self.session.store, group=name)
            self.cases.append(image | {"kind": "icechunk"})
            stored = virtual_dataset(path, stored_order=True, **options)
            for zarr_format, each in ((3, dataset), (2, stored)):
                references = f"{name}-{zarr_format}.json"
                each.vz.to_kerchunk(str(self.folder / references), "json", zarr_format=zarr_format)
                kerchunk = {"kind": "kerchunk", "references": references}
                self.cases.append(image | kerchunk | {"zarr_format": zarr_format})
        order = [dataset.image.dims.index(dim) for dim in stored.image.dims]
        np.save(self.folder / f"{name}-stored.npy", pixels.transpose(order))
        self.cases[-1]["pixels"] = f"{name}-stored.npy"

    def differences(self) -> dict[str, str]:
        """What zarr alone reads otherwise, in another process."""
        self.session.commit("all files")
        (self.folder / "cases.json").write_text(json.dumps(self.cases), "utf-8")
        command = [sys.executable, "-I", str(WITHOUT_US), str(self.folder)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert not result.returncode, result.stderr
        found: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
        return found


@pytest.fixture
def written_files(tmp_path: Path) -> WrittenFiles:
    (tmp_path / "virtual").mkdir()
    return WrittenFiles(tmp_path / "virtual")
