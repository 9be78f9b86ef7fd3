"""The command, and the demo as its users run it: in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import matplotlib.image
import numpy as np
import psutil
import pytest

from xarray_nd2.cli.demo.sample import PIXEL_SIZE_UM, PLANE_COUNT, PLANE_DISTANCE_UM, Sample
from xarray_nd2.cli.demo.track import measure_cell
from xarray_nd2.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEMO_COMMAND = [sys.executable, "-m", "xarray_nd2.cli", "demo", "--size-mb", "8"]
PROCESS_MARK = "XARRAY_ND2_TEST_OF_DEMO"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables with which all that the demo leaves behind can be found."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    own = {"TMPDIR": str(temporary), "TEMP": str(temporary), PROCESS_MARK: str(tmp_path)}
    # A demo without a cloud account must not stumble over the settings of one.
    return os.environ | own | {"AWS_PROFILE": "absent", "HTTP_PROXY": "http://127.0.0.1:9"}


def left_behind(tmp_path: Path) -> list[str]:
    """Processes and files of the demo that stay when it has ended.

    The process that workers were forked from ends by itself when it sees that.
    """
    give_up = time.monotonic() + 10
    while (found := list(_still_there(tmp_path))) and time.monotonic() < give_up:
        time.sleep(0.05)
    return found


def _still_there(tmp_path: Path) -> Iterator[str]:
    yield from (str(path) for path in (tmp_path / "temporary").iterdir())
    for process in psutil.process_iter():
        try:
            if process.environ().get(PROCESS_MARK) == str(tmp_path):
                yield " ".join(process.cmdline())
        except psutil.Error:
            continue


def test_demo(tmp_path: Path, environment: dict[str, str]) -> None:
    output = tmp_path / "cell.png"
    done = subprocess.run(
        [*DEMO_COMMAND, "--output", str(output)],
        env=environment | {"COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert left_behind(tmp_path) == []

    assert "image       (T, Z, C, Y, X) uint16" in done.stdout
    assert "nan" not in done.stdout
    [error] = re.findall(r"at most (\S+) µm from where it was", done.stdout)
    assert float(error) < 0.2
    assert "the places are the same" in done.stdout
    check_costs(done.stdout)
    check_figure(output)


def check_costs(printed: str) -> None:
    def row(name: str) -> list[float]:
        [line] = [line for line in printed.splitlines() if line.strip().startswith(name)]
        return [float(number) for number in re.findall(r"[\d.]+", line)]

    size, needed, fetched = row("in the file"), row("needed"), row("fetched")
    assert size[0] == size[1] == pytest.approx(8, rel=0.1)
    assert 0 < needed[0] == needed[1]
    assert needed[0] < fetched[0] < size[0] / 2
    assert fetched[0] < fetched[1]
    assert all(1 < requests < 100 for requests in row("requests"))
    assert all(0 <= seconds < 60 for seconds in row("seconds"))


def check_figure(path: Path) -> None:
    pixels = matplotlib.image.imread(path)[..., :3]
    height, width, _ = pixels.shape
    assert height > 600
    assert width > 1000
    cells, below = pixels[: height // 4], pixels[height // 3 :]
    path_part, plots = below[:, : width // 2], below[:, width // 2 :]
    assert cells.std() > 0.1
    assert path_part.std() > 0.1
    assert len(np.unique(plots.reshape(-1, 3), axis=0)) > 50


@pytest.mark.skipif(os.name == "nt", reason="sends a signal to a group of processes")
def test_demo_cleans_up_when_interrupted(tmp_path: Path, environment: dict[str, str]) -> None:
    # What a shell starts in the background ignores it, and hands that down.
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        check_interrupting(tmp_path, environment)
    finally:
        signal.signal(signal.SIGINT, kept)


def check_interrupting(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*DEMO_COMMAND, "--output", str(tmp_path / "cell.png")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("Starting dask") for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: the workers get it too
        _, errors = process.communicate(timeout=60)
    assert errors.splitlines() == [
        "xarray-nd2: interrupted; everything it had started is stopped and removed"
    ]
    assert process.returncode == 130
    assert not (tmp_path / "cell.png").exists()
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("megabytes", [5, 8, 49, 50, 200, 2000])
def test_sample(megabytes: int) -> None:
    sample = Sample.of_size(megabytes)
    stack = PLANE_COUNT * 2 * sample.side_pixels**2 * 2
    assert sample.stack_count * stack == pytest.approx(megabytes * 1e6, rel=0.2)
    places = sample.place(np.arange(sample.stack_count))
    field = np.array(
        [
            PLANE_COUNT * PLANE_DISTANCE_UM,
            sample.side_pixels * PIXEL_SIZE_UM,
            sample.side_pixels * PIXEL_SIZE_UM,
        ]
    )
    assert (places > 0.15 * field).all()
    assert (places < 0.85 * field).all()


@pytest.mark.parametrize("z", [3.0, 6.9, 11.0])
def test_measure(z: float, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.array([z, 61.3, 50.2])
    sample = Sample(2, 256)
    monkeypatch.setattr(Sample, "place", lambda _, t: np.broadcast_to(truth, (*np.shape(t), 3)))
    planes = np.arange(PLANE_COUNT)[abs(np.arange(PLANE_COUNT) * PLANE_DISTANCE_UM - z) < 4]
    rows, columns = np.arange(60, 124), np.arange(50, 114)
    labels = {
        "Z": planes * PLANE_DISTANCE_UM,
        "C": np.array(["DAPI", "GFP"]),
        "Y": rows * PIXEL_SIZE_UM,
        "X": columns * PIXEL_SIZE_UM,
    }
    pixels = np.stack([sample.frame(plane)[:, 60:124, 50:114] for plane in planes.tolist()])
    found = measure_cell(pixels, labels, truth + np.array([1.0, 8.0, -8.0]))
    np.testing.assert_allclose(found.place, truth, atol=0.1)
    assert found.picture.dims == ("C", "Y", "X")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size-mb", "1"], "--size-mb must be from 5 to 2000, not 1"),
        (["--size-mb", "many"], "--size-mb"),
        (["--workers", "0"], "--workers must be from 1 to 64, not 0"),
        (["--latency-ms", "-1"], "--latency-ms must be from 0 to 1000, not -1"),
        (["--output", "cell.txt"], "--output must end in .png, not 'cell.txt'"),
        (["--output", "absent/cell.png"], "--output: there is no folder 'absent'"),
        (["--colour", "red"], "Unknown option"),
    ],
)
def test_bad_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["flask", "matplotlib", "moto"])
def test_missing_extra(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["demo"]) == 1
    expected = f'xarray-nd2: the demo needs {name}: pip install "xarray-nd2[demo]"\n'
    assert capsys.readouterr().err == expected


def test_failure_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "run42.nd2")

    monkeypatch.setattr(Sample, "write", full)
    before = dict(os.environ)
    assert main(["demo"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert dict(os.environ) == before
