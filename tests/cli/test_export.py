"""The command ``export``: from and to disks and stores, in both formats."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from distributed import LocalCluster

from tests.cli.test_commands import Output, printed, refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from xarray_nd2.testing import RangeServer, S3Server


@pytest.fixture
def pixels(run_file: Path) -> NDArray[np.uint16]:
    """All of the image, T, C, Z, Y, X as OME-Zarr has it."""
    image = xr.open_dataset(run_file, engine="nd2").image
    values: NDArray[np.uint16] = image.transpose("T", "C", "Z", "Y", "X").values
    return values


def level_0(group: Any) -> Any:
    return group["0"][:]


def test_from_a_server_to_a_folder(
    http: RangeServer, tmp_path: Path, pixels: NDArray[np.uint16], capsys: Output
) -> None:
    out = tmp_path / "run.ome.zarr"
    arguments = ("export", http.url("cli-run.nd2"), str(out), "--json")
    planned = json.loads(printed(capsys, *arguments, "--dry-run"))
    assert not out.exists()
    assert planned["dry_run"]
    http.log.clear()
    told = json.loads(printed(capsys, *arguments))
    asked = [entry.start for entry in http.log.entries if entry.start is not None]
    assert len(asked) == len(set(asked)), "nothing is fetched twice"
    assert (told["axes"], told["level_shapes"][0]) == ("tczyx", list(pixels.shape))
    assert planned["requests"] > 0
    assert planned["bytes_to_read"] >= pixels.nbytes
    np.testing.assert_array_equal(level_0(zarr.open_group(out, mode="r")), pixels)
    # Again it goes on where nothing is left to do.
    again = printed(capsys, *arguments[:3])
    assert f"{told['tasks']} of {told['tasks']} tasks" in again


def test_from_store_to_store(
    run_file: Path, s3: S3Server, pixels: NDArray[np.uint16], capsys: Output
) -> None:
    s3.upload(run_file, "bucket", "cli-run.nd2")
    options = [f"{key}={value}" for key, value in s3.storage_options.items()]
    source = [part for each in options for part in ("-o", each)]
    target = [part for each in options for part in ("-O", each)]
    url = "s3://bucket/cli-exported.ome.zarr"
    out = printed(capsys, "export", "s3://bucket/cli-run.nd2", url, *source, *target)
    assert "testing" not in out
    store = fsspec.get_mapper(url, **s3.storage_options)
    found = {key: bytes(store[key]) for key in store}
    group = zarr.open_group(_in_memory(found), mode="r")
    np.testing.assert_array_equal(level_0(group), pixels)


def _in_memory(objects: dict[str, bytes]) -> zarr.storage.MemoryStore:
    prototype = zarr.core.buffer.default_buffer_prototype()
    buffers = {key: prototype.buffer.from_bytes(data) for key, data in objects.items()}
    return zarr.storage.MemoryStore(buffers)


def test_a_selection(
    run_file: Path, tmp_path: Path, pixels: NDArray[np.uint16], capsys: Output
) -> None:
    selection = ["--sel", "C=GFP", "--isel", "T=1:3", "--isel", "Y=0:64"]
    expected = pixels[1:3, 1:, :, :64]
    printed(capsys, "export", str(run_file), str(tmp_path / "part.ome.zarr"), *selection)
    found = level_0(zarr.open_group(tmp_path / "part.ome.zarr", mode="r"))
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    out = printed(
        capsys,
        *("export", str(run_file), str(tmp_path / "part.ome.tif"), *selection),
        *("--compression", "zlib", "--levels", "1"),
    )
    assert str(tmp_path / "part.ome.tif") in out
    with tifffile.TiffFile(tmp_path / "part.ome.tif") as file:
        series = file.series[0]
        assert len(series.levels) == 2
        order = [series.axes.index(axis) for axis in "TZYX"]
        tiff = series.asarray().transpose(order)
    np.testing.assert_array_equal(tiff, expected[:, 0])


def test_on_a_cluster(
    http: RangeServer, tmp_path: Path, pixels: NDArray[np.uint16], capsys: Output
) -> None:
    out = tmp_path / "run.ome.zarr"
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        printed(capsys, "export", http.url("cli-run.nd2"), str(out), "--scheduler", address)
    np.testing.assert_array_equal(level_0(zarr.open_group(out, mode="r")), pixels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.ome.tif", "--dry-run"], "--dry-run is not for an OME-TIFF"),
        (["x.tiff", "-O", "a=b"], "-O is not for an OME-TIFF"),
        (["x.ome.zarr", "--compression", "zlib"], "--compression is not for an OME-Zarr"),
        (["x.ome.zarr", "--levels", "-1"], "--levels must be at least 0"),
        (["x.ome.zarr", "--max-workers", "0"], "--max-workers must be at least 1"),
        (["x.ome.zarr", "--scheduler", "cluster"], "--scheduler takes threads"),
        (["x.ome.zarr", "--isel", "T=99"], "T has 4"),
        (["x.ome.zarr", "-O", "secret"], "-O takes KEY=VALUE"),
    ],
)
def test_usage_errors(
    arguments: list[str], message: str, run_file: Path, tmp_path: Path, capsys: Output
) -> None:
    destination, *rest = arguments
    assert message in refused(capsys, "export", str(run_file), str(tmp_path / destination), *rest)
    assert not list(tmp_path.iterdir())


def test_options_of_the_destination_are_not_shown(run_file: Path, capsys: Output) -> None:
    for option in ("--destination-option=secret=hushhush", "-Osecret=hushhush"):
        told = refused(capsys, "export", str(run_file), "x.zarr", option, "--levels=hushhush")
        assert "hushhush" not in told


def read_until_closed(terminal: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # how Linux tells that the other end was closed
        while part := os.read(terminal, 2**16):
            yield part


@pytest.mark.parametrize("name", ["run.ome.zarr", "run.ome.tif"])
def test_progress_on_a_terminal(name: str, run_file: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "xarray_nd2.cli", "export", str(run_file)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [*command, str(tmp_path / name)], stdout=subprocess.PIPE, stderr=end, env=environment
    ) as process:
        os.close(end)
        # Read as it comes, since a terminal that nobody reads holds up who writes to it.
        shown = b"".join(read_until_closed(terminal)).decode()
        result, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 0
    assert "0/?" in shown, "it is not known how much there is before the file is open"
    assert "/100" not in shown
    assert b"written" in result
    assert b"\x1b" not in result


def test_what_is_interrupted_goes_on(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xarray_nd2.export.ome_zarr.run_tasks", interrupt)
    arguments = ("export", str(run_file), str(tmp_path / "run.ome.zarr"))
    assert "the same command goes on" in refused(capsys, *arguments, code=130)
    assert "without --overwrite goes on" in refused(capsys, *arguments, "--overwrite", code=130)
    monkeypatch.undo()
    printed(capsys, *arguments)
    assert "ome" in zarr.open_group(tmp_path / "run.ome.zarr", mode="r").attrs


def test_what_is_there_stays(run_file: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "run.ome.zarr").mkdir()
    (tmp_path / "run.ome.zarr" / "thesis.txt").write_text("mine")
    (tmp_path / "run.ome.tif").write_text("mine")
    for name in ("run.ome.zarr", "run.ome.tif"):
        message = refused(capsys, "export", str(run_file), str(tmp_path / name), code=1)
        assert "overwrite" in message
    assert (tmp_path / "run.ome.tif").read_text() == "mine"
    printed(capsys, "export", str(run_file), str(tmp_path / "run.ome.tif"), "--overwrite")
    with tifffile.TiffFile(tmp_path / "run.ome.tif") as file:
        assert file.is_ome


@pytest.mark.parametrize("name", ["zarr", "tifffile"])
def test_missing_extra(
    name: str, run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    message = refused(capsys, "export", str(run_file), str(tmp_path / "x.ome.zarr"), code=1)
    assert f'export needs {name}: pip install "xarray-nd2[export]"' in message
