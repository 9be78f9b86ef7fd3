"""The commands ``info``, ``explain`` and ``preview``, over HTTP, on S3 and on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import fsspec.config
import numpy as np
import pytest
import xarray as xr
from PIL import Image

import xarray_nd2
from xarray_nd2.cli.main import main
from xarray_nd2.testing import RangeServer, write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import S3Server
    from xarray_nd2.testing.answers import Answer, Asked

Output = pytest.CaptureFixture[str]


def printed(capsys: Output, *arguments: str) -> str:
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(capsys: Output, *arguments: str, code: int = 2) -> str:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("xarray-nd2: ")
    return captured.err


@pytest.fixture(params=["disk", "http", "s3"])
def place(
    request: pytest.FixtureRequest, run_file: Path, http: RangeServer, s3: S3Server
) -> list[str]:
    """URL of the file and options of its store, as arguments."""
    if request.param == "disk":
        return [str(run_file)]
    if request.param == "http":
        return [http.url("cli-run.nd2")]
    s3.upload(run_file, "bucket", "cli-run.nd2")
    options = [f"{key}={value}" for key, value in s3.storage_options.items()]
    return ["s3://bucket/cli-run.nd2", *(part for each in options for part in ("-o", each))]


def test_info_as_json(place: list[str], run_file: Path, capsys: Output) -> None:
    told = json.loads(printed(capsys, "info", *place, "--json"))
    assert told["sizes"] == {"T": 4, "Z": 3, "C": 2, "Y": 96, "X": 128}
    assert [each["name"] for each in told["channels"]] == ["DAPI", "GFP"]
    assert told["channels"][0]["color"] == "#0000ff"
    assert told["channels"][0]["emission_nm"] == 450
    assert told["channels"][1]["excitation_nm"] is None
    assert told["groups"] == [
        path[1:] for path in xr.open_datatree(run_file, engine="nd2").groups[1:]
    ]
    assert (told["dtype"], told["pixel_size_um"]) == ("uint16", [0.25, 0.25])
    assert told["time"]["start"].startswith("2026-01-15T09:30:00")
    assert told["file_bytes"] == run_file.stat().st_size
    assert 0 < told["opening"]["bytes"] <= 2 * run_file.stat().st_size


def test_info_for_people(place: list[str], capsys: Output) -> None:
    text = printed(capsys, "info", *place)
    for told in (
        "128 × 96 pixels",
        "4 times (T)",
        "DAPI, excitation 405 nm, emission 450 nm",
        "0.25 µm",
    ):
        assert told in text
    assert "\x1b" not in text


def test_explain_is_what_is_read(http: RangeServer, run_file: Path, capsys: Output) -> None:
    chosen = ["--sel", "T=61", "--sel", "C=DAPI", "--isel", "Y=0:24", "--isel", "Z=0,2"]
    told = json.loads(printed(capsys, "explain", http.url("cli-run.nd2"), *chosen, "--json"))
    assert told["sizes"] == {"Z": 2, "Y": 24, "X": 128}
    assert told["frames"] == 2
    assert told["bytes_needed"] == 2 * 24 * 128 * 2
    image = xr.open_dataset(http.url("cli-run.nd2"), engine="nd2").image
    selected = image.sel(C="DAPI").isel(T=1, Z=[0, 2], Y=slice(24))
    expected = xarray_nd2.explain(selected)
    assert (told["requests"], told["bytes_fetched"]) == (expected.requests, expected.bytes_fetched)
    assert "frames" in printed(capsys, "explain", http.url("cli-run.nd2"))


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        (["--sel", "T=0,120"], {"T": 2}),
        (["--sel", "T=50:130"], {"T": 2}),
        (["--sel", "T=130:50"], {"T": 2}),
        (["--sel", "T=61:"], {"T": 2}),
        (["--sel", "Z=-2:0", "--isel", "T=-1"], {"Z": 2}),
        (["--sel", "C=DAPI:GFP", "--isel", "Y=0:96:2"], {"C": 2, "Y": 48}),
        (["--sel", "C=GFP,DAPI"], {"C": 2}),
        (["--sel", "X=0:1"], {"X": 5}),
    ],
)
def test_selections(
    arguments: list[str], sizes: dict[str, int], run_file: Path, capsys: Output
) -> None:
    told = json.loads(printed(capsys, "explain", str(run_file), *arguments, "--json"))
    assert {dim: told["sizes"][dim] for dim in sizes} == sizes


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (["--sel", "Q=3"], "there is no dimension 'Q'; there are T (4), Z (3), C (2)"),
        (["--sel", "C=Cy5"], "there are DAPI, GFP"),
        (["--sel", "T=9999"], "T goes from 0 to 180 s"),
        (["--sel", "T=soon"], "'soon' is no number"),
        (["--isel", "T=4"], "T has 4, 0 to 3"),
        (["--isel", "T=1.5"], "no whole number"),
        (["--isel", "T=2:2"], "nothing of T is selected"),
        (["--isel", "T"], "--isel takes DIM=WHAT"),
        (["--isel", "T=1", "--sel", "T=1"], "T is selected twice"),
    ],
)
def test_bad_selections(selection: list[str], message: str, run_file: Path, capsys: Output) -> None:
    assert message in refused(capsys, "explain", str(run_file), *selection)


def test_preview_has_the_colours_of_the_channels(
    place: list[str], tmp_path: Path, capsys: Output
) -> None:
    output = tmp_path / "run.png"
    text = printed(capsys, "preview", *place, str(output), "--width", "256", "--project", "max")
    assert "maximum of 3 planes" in text
    pixels = np.asarray(Image.open(output)).astype(int)
    assert pixels.shape == (192, 256, 3)
    left, right = pixels[:, :110].mean((0, 1)), pixels[:, 146:].mean((0, 1))
    assert left[2] > 200 > 60 > left[1]
    assert right[1] > 200 > 60 > right[2]
    assert max(left[0], right[0]) < 10


def test_preview_of_colour_is_as_it_is(tmp_path: Path, capsys: Output) -> None:
    pixels = np.empty((80, 120, 3), np.uint8)
    pixels[:] = 200, 100, 30
    write_nd2(tmp_path / "colour.nd2", pixels, "YXS")
    printed(
        capsys, "preview", str(tmp_path / "colour.nd2"), str(tmp_path / "c.png"), "--width", "120"
    )
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "c.png")), pixels)


def test_preview_uses_an_embedded_level(tmp_path: Path, http: RangeServer, capsys: Output) -> None:
    rows, columns = np.ogrid[:2200, :2200]
    write_nd2(tmp_path / "levels.nd2", (rows + columns).astype(np.uint16), "YX", levels=1)
    http.put("cli-levels.nd2", (tmp_path / "levels.nd2").read_bytes())
    arguments = (http.url("cli-levels.nd2"), str(tmp_path / "levels.png"), "--width", "500")
    assert "embedded level 1" in printed(capsys, "preview", *arguments)


def test_a_large_frame_costs_little(
    huge_file: Path, http: RangeServer, tmp_path: Path, capsys: Output
) -> None:
    printed(capsys, "info", http.url(huge_file.name))
    assert 0 < http.log.bytes <= 1_000_000
    for width in (100, 2048):
        http.log.clear()
        output = tmp_path / f"{width}.png"
        size = ["--width", str(width), "--contrast", "0", "100"]
        printed(capsys, "preview", http.url(huge_file.name), str(output), *size)
        assert 0 < http.log.bytes <= 0.1 * huge_file.stat().st_size
        pixels = np.asarray(Image.open(output).convert("L")).astype(float)
        assert pixels.shape == (width, width)
        ramp = np.add.outer(np.arange(width), np.arange(width)) / (2 * width - 2) * 255
        assert abs(pixels - ramp).max() < 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--width", "99"], "--width must be from 100 to 2048, not 99"),
        (["a.png", "--width", "2049"], "--width must be from 100 to 2048"),
        (["a.png", "--contrast", "50", "10"], "--contrast takes two percentiles"),
        (["a.jpg"], "must end in .png"),
        (["absent/a.png"], "there is no folder"),
        (["a.png", "--isel", "T=0:2"], "a picture is of one T"),
        (["a.png", "--isel", "Z=0:2"], "--project max"),
        (["a.png", "--isel", "Y=0"], "one Y is no picture"),
    ],
)
def test_bad_previews(arguments: list[str], message: str, run_file: Path, capsys: Output) -> None:
    assert message in refused(capsys, "preview", str(run_file), *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a command: info, preview"),
        (["inof"], "Unknown command"),
        (["info"], "requires an argument"),
        (["info", "a.nd2", "--colour"], "Unknown option"),
        (["info", "a.nd2", "-o", "hush"], "-o takes KEY=VALUE"),
        (["info", "a.nd2", "-o", "a=1", "-o", "a.b=2"], "a has a value already"),
        (["info", "a.nd2", "-o", "a=1", "-o", "a=2"], "given twice"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys: Output) -> None:
    error = refused(capsys, *arguments)
    assert message in error
    assert "hush" not in error


@pytest.mark.parametrize("command", ["info", "preview", "explain", "doctor", "demo"])
def test_help(command: str, capsys: Output) -> None:
    assert command in printed(capsys, "--help")
    text = printed(capsys, command, "--help")
    assert f"xarray-nd2 {command}" in text.partition("Examples:")[2]


def test_version(capsys: Output) -> None:
    assert printed(capsys, "--version") == f"xarray-nd2 {xarray_nd2.__version__}\n"


def test_no_secret_is_shown(http: RangeServer, run_file: Path, capsys: Output) -> None:
    secret = "hushhush"
    url = http.url("cli-run.nd2").replace("http://", f"http://user:{secret}@")
    for target in (f"{url}?X-Amz-Signature={secret}", url.replace("cli-run", "absent")):
        for command in (["info"], ["info", "--json"], ["explain"], ["doctor"]):
            main([*command, target, "-o", f"headers.Authorization=Bearer {secret}"])
            main([*command, target, "-o", f"not_an_option.secret={secret}", f"secret={secret}"])
            captured = capsys.readouterr()
            assert captured.out + captured.err != ""
            assert secret not in captured.out + captured.err
            assert "Traceback" not in captured.err


def test_settings_of_fsspec_count(
    run_file: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    s3.upload(run_file, "bucket", "cli-settings.nd2")
    settings = s3.storage_options | {"config_kwargs": {"read_timeout": 31}}
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    assert "128 × 96" in printed(capsys, "info", "s3://bucket/cli-settings.nd2")


class NotingServer(RangeServer):
    """Notes a header of each request."""

    def answer(self, asked: Asked) -> Answer:
        self.seen = [*getattr(self, "seen", []), asked.headers.get("x-lab")]
        return super().answer(asked)


def test_headers_reach_the_server(run_file: Path, capsys: Output) -> None:
    with NotingServer(run_file.parent) as server:
        printed(capsys, "info", server.url("cli-run.nd2"), "-o", "headers.X-Lab=7 a")
    assert set(server.seen) == {"7 a"}


def test_warnings_are_short_lines(tmp_path: Path, capsys: Output) -> None:
    write_nd2(tmp_path / "gaps.nd2", np.ones((3, 8, 8), np.uint16), "TYX", missing=[1])
    assert main(["info", str(tmp_path / "gaps.nd2"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["missing_frames"] == 1
    [line] = captured.err.splitlines()
    assert line.startswith("xarray-nd2: warning: ")
    assert "1 of 3 frames are not in the file" in line


def test_missing_file(tmp_path: Path, capsys: Output) -> None:
    error = refused(capsys, "info", str(tmp_path / "absent.nd2"), code=1)
    assert "there is no such file" in error


@pytest.mark.parametrize("name", ["cyclopts", "rich"])
def test_missing_extra(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    error = refused(capsys, "info", "a.nd2", code=1)
    assert error == f'xarray-nd2: this needs {name}: pip install "xarray-nd2[cli]"\n'


def test_as_a_process(run_file: Path, http: RangeServer) -> None:
    command = [sys.executable, "-m", "xarray_nd2.cli", "info", "--json"]
    environment = os.environ | {"FSSPEC_HTTP_HEADERS": '{"X-Lab": "7"}'}
    done = subprocess.run(
        [*command, http.url("cli-run.nd2")], capture_output=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["sizes"]["T"] == 4
