"""The Python blocks of the README and the docs run and print what is shown."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import re
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import s3fs

from tests.conftest import ROOT
from xarray_nd2.testing import (
    Channel,
    Event,
    MaskLayer,
    Outline,
    RecordedColumn,
    Roi,
    Stimulation,
    write_nd2,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from xarray_nd2.testing import RangeServer, S3Server

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The host that the docs name, for which a server on the loopback stands in.
HOST = "https://data.example.org"
# Dask's usual port may be taken by another program of this machine.
CLIENT, CLIENT_ANYWHERE = "Client(n_workers", "Client(dashboard_address=':0', n_workers"
# What a fence may say; an unknown word would be a block that nobody runs.
# The code of {code-block} needs packages that the tests do not have; its page says how it was checked.
OTHER_BLOCKS = {"bash", "text", "{code-block}", "{eval-rst}", "{glue}", "{toctree}"}
# Packages that the blocks of a document need and that not every Python has, and why not.
NEEDED_PACKAGES = {
    "virtual.md": ("virtualizarr", "needs VirtualiZarr, and so Python 3.12 or later"),
}


@dataclass(frozen=True)
class Block:
    """A Python block of a document, and what is shown to be printed by it."""

    path: Path
    line: int
    code: str
    output: str | None

    def run(self, namespace: dict[str, Any]) -> str:
        """Run the block as a notebook would, with ``await`` where it likes, and catch its output."""
        padded = "\n" * (self.line - 1) + self.code  # tracebacks show the document's lines
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(padded, str(self.path), "exec", flags=flags, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = eval(code, namespace)
            if inspect.iscoroutine(result):
                asyncio.run(result)
        return printed.getvalue()


def blocks_of(path: Path) -> Iterator[Block]:
    text = path.read_text("utf-8")
    fences = list(re.finditer(r"^```(\S*) ?(.*)\n((?:.*\n)*?)^```$", text, re.M))
    for i, fence in enumerate(fences):
        language, remark, code = fence.groups()
        if language != "python":
            assert language in OTHER_BLOCKS, f"{path}: a block of {language!r}"
            assert remark != "output" or fences[i - 1][1] == "python", f"{path}: output of nothing"
            continue
        shown = i + 1 < len(fences) and fences[i + 1][2] == "output"
        line = text.count("\n", 0, fence.start(3)) + 1
        yield Block(path, line, code, fences[i + 1][3] if shown else None)


@pytest.fixture(scope="module")
def run42(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, and a second one of the same plan beside it."""
    folder = tmp_path_factory.mktemp("docs")
    for seed, period, day in ((42, 60.0, 15), (43, 60.02, 16)):
        write_nd2(
            folder / f"run{seed}.nd2",
            np.random.default_rng(seed).integers(100, 4000, (6, 5, 2, 512, 512), np.uint16),
            "TZCYX",
            channels=[
                Channel("DAPI", emission=450, excitation=405, color="#0000ff", exposure=50),
                Channel("GFP", emission=520, excitation=488, color="#00ff00", exposure=20),
            ],
            pixel_size=0.25,
            camera_to_stage=[-1, 0, 0, -1],
            z_step=0.5,
            period=period,
            stage_positions=[(1200, -800, 3001)],
            start=f"2026-01-{day}T09:30:00",
            timestamps=(0.4 + np.arange(6)[:, None] * period + np.arange(5) * 2.0).ravel(),
            recorded={
                "X": np.full(30, 1200.0),
                "Y": np.full(30, -800.0),
                "Z": np.tile(3000 + np.arange(5) * 0.5, 6),
            },
            text_info={"description": "Two channels over five minutes", "date": f"2026-01-{day}"},
        )
    write_plate(folder / "plate7.nd2")
    return folder / "run42.nd2"


def write_plate(path: Path) -> None:
    """A file with all that files have beside the image."""
    objects = np.zeros((6, 3, 1100, 1100), np.uint8)
    objects[:, :, 100:160, 40:120] = 1
    objects[:, :, 500:600, 500:700] = 2
    write_nd2(
        path,
        np.random.default_rng(7).integers(100, 4000, (6, 3, 2, 1100, 1100), np.uint16),
        "TZCYX",
        channels=["DAPI", "GFP"],
        pixel_size=0.25,
        period=60.0,
        start="2026-01-15T09:30:00",
        timestamps=(np.arange(6)[:, None] * 60.0 + np.arange(3) * 2.0).ravel(),
        recorded={
            "CameraTemp1": np.repeat([37.0, 37.1, 37.1, 37.2, 37.2, 37.3], 3),
            "PFS_STATUS": np.full(18, 7),
            "Note": RecordedColumn(np.array(["", "refocused"] * 9), "Note", ""),
            "Z1": np.tile(3000.0 + np.arange(3), 6),
        },
        events=[
            Event(61.0, kind=7, description="Perfusion on"),
            Event(180.5, kind=15, description="Spot 1", stimulation=Stimulation("begin")),
        ],
        rois=[
            Roi("rectangle", Outline((80, 120), (64, 32)), "nucleus"),
            Roi(
                "polygon",
                Outline((400, 400), vertices=[(380, 380), (420, 380), (400, 430)]),
                "background",
            ),
        ],
        masks=[MaskLayer("nuclei", objects, color="#ff0000", component="DAPI")],
        levels=1,
    )


@pytest.fixture(scope="module")
def stored(run42: Path, s3: S3Server, shared_http: RangeServer) -> None:
    """The file in the places that the docs name, in S3 for everybody to read."""
    for name in ("run42.nd2", "plate7.nd2"):
        shared_http.put(name, run42.with_name(name).read_bytes())
    s3.put("bucket", "run42.nd2", run42.read_bytes())
    store = s3fs.S3FileSystem(**s3.storage_options)
    for path in ("bucket", "bucket/run42.nd2"):
        store.chmod(path, acl="public-read")


@pytest.mark.filterwarnings("ignore:.*frames are not in the file")
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document(
    path: Path,
    run42: Path,
    stored: None,
    s3: S3Server,
    http: RangeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if path.name in NEEDED_PACKAGES:
        package, reason = NEEDED_PACKAGES[path.name]
        pytest.importorskip(package, reason=reason)
    blocks = list(blocks_of(path))
    shutil.copytree(run42.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.storage_options["endpoint_url"])
    monkeypatch.setenv("MPLBACKEND", "agg")
    server = http.url("").rstrip("/")
    checker = doctest.OutputChecker()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    namespace: dict[str, Any] = {"__name__": "notebook"}
    for block in blocks:
        code = block.code.replace(HOST, server).replace(CLIENT, CLIENT_ANYWHERE)
        printed = replace(block, code=code).run(namespace)
        expected = block.output or ""
        assert checker.check_output(expected, printed, flags), (
            f"{path.name}, line {block.line} prints\n{printed}"
        )


def test_the_documents_have_blocks() -> None:
    counts = {path.name: len(list(blocks_of(path))) for path in DOCUMENTS}
    assert counts["README.md"] == 1
    assert sum(counts.values()) >= 20
