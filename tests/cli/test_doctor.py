"""The command ``doctor``: it finds what is wrong with each of several broken servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from xarray_nd2.cli.main import main
from xarray_nd2.testing import Fault, RangeServer
from xarray_nd2.testing.answers import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import S3Server
    from xarray_nd2.testing.answers import Asked

Output = pytest.CaptureFixture[str]


def diagnosis(capsys: Output, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and what was found by the name of the check."""
    code = main(["doctor", *arguments, "--json"])
    captured = capsys.readouterr()
    assert captured.err == ""
    told = json.loads(captured.out)
    assert told["ok"] == (code == 0)
    for each in told["checks"]:
        assert bool(each["advice"]) == (each["outcome"] != "ok")
    return code, {each["check"]: each for each in told["checks"]}


@pytest.mark.parametrize(
    ("fault", "check", "words"),
    [
        ("ignore_range", "ranges", "ignores Range"),
        ("gzip", "encoding", "gzip"),
        (403, "access", "refused"),
        (401, "access", "refused"),
        (404, "access", "no such file"),
        (500, "access", "HTTP 500"),
        ("early_end", "ranges", "range could not be read"),
        ("short", "ranges", "bytes has"),
        ("reset", "connection", "no connection"),
        ("stall", "connection", "no answer within"),
    ],
)
def test_failures(
    fault: Any, check: str, words: str, run_file: Path, http: RangeServer, capsys: Output
) -> None:
    http.faults = lambda *_: Fault(fault)
    code, found = diagnosis(capsys, http.url("cli-run.nd2"), "--patience", "2")
    assert code == 1
    assert found[check]["outcome"] == "failed"
    assert words in found[check]["found"]


class OddServer(RangeServer):
    """Alters what its answers say."""

    without: tuple[str, ...] = ()
    content_range: str | None = None
    has_head = True

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "HEAD" and not self.has_head:
            return Answer(405)
        said = super().answer(asked)
        headers = [pair for pair in said.headers if pair[0] not in self.without]
        if self.content_range and asked.range:
            headers = [pair for pair in headers if pair[0] != "Content-Range"]
            headers.append(("Content-Range", self.content_range))
        return Answer(said.status, headers, said.body)


@pytest.mark.parametrize(
    ("change", "code", "check", "outcome", "words"),
    [
        ({"without": ("ETag",)}, 0, "version", "warning", "no entity tag"),
        ({"without": ("ETag", "Last-Modified")}, 0, "version", "warning", "no date of change"),
        ({"has_head": False}, 0, "HEAD", "warning", "HTTP 405"),
        ({"latency": 0.25}, 0, "latency", "warning", "a small request takes"),
        ({"bandwidth": 400_000.0}, 0, "bandwidth", "warning", "kB/s"),
        ({"content_range": "bytes 5-2052/900000"}, 1, "ranges", "failed", "another range"),
        ({"without": ("Content-Range",)}, 1, "ranges", "failed", "tells 'nothing'"),
    ],
)
def test_odd_servers(
    change: dict[str, Any],
    code: int,
    check: str,
    outcome: str,
    words: str,
    run_file: Path,
    capsys: Output,
) -> None:
    with OddServer(run_file.parent) as server:
        for name, value in change.items():
            setattr(server, name, value)
        exit_code, found = diagnosis(capsys, server.url(run_file.name))
    assert (exit_code, found[check]["outcome"]) == (code, outcome)
    assert words in found[check]["found"]


def test_sound_servers(run_file: Path, http: RangeServer, s3: S3Server, capsys: Output) -> None:
    s3.upload(run_file, "bucket", "cli-doctor.nd2")
    options = [f"{key}={value}" for key, value in s3.storage_options.items()]
    on_s3 = ["s3://bucket/cli-doctor.nd2", *(part for each in options for part in ("-o", each))]
    for place in ([str(run_file)], [http.url(run_file.name)], on_s3):
        code, found = diagnosis(capsys, *place)
        assert code == 0
        assert {each["outcome"] for each in found.values()} == {"ok"}
        assert {"access", "version", "ND2", "latency", "bandwidth"} <= set(found)


def test_other_failures(tmp_path: Path, http: RangeServer, s3: S3Server, capsys: Output) -> None:
    http.put("page.nd2", b"<html>" * 1000)
    code, found = diagnosis(capsys, http.url("page.nd2"))
    assert (code, found["ND2"]["outcome"]) == (1, "failed")
    code, found = diagnosis(capsys, str(tmp_path / "absent.nd2"))
    assert (code, found["access"]["outcome"]) == (1, "failed")
    endpoint = f"endpoint_url={s3.endpoint_url}"
    options = ["-o", endpoint, "-o", "key=a", "-o", "secret=b"]
    code, found = diagnosis(capsys, "s3://bucket/absent.nd2", *options)
    assert (code, found["access"]["outcome"]) == (1, "failed")
    code, found = diagnosis(capsys, "http://127.0.0.1:9/run.nd2", "--patience", "2")
    assert (code, found["connection"]["outcome"]) == (1, "failed")
    code, found = diagnosis(capsys, "nonsense://host/run.nd2")
    assert (code, found["store"]["outcome"]) == (1, "failed")


def test_for_people(run_file: Path, http: RangeServer, capsys: Output) -> None:
    http.faults = lambda *_: Fault("gzip")
    assert main(["doctor", http.url(run_file.name)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("encoding") and "failed" in line for line in lines)
    assert any("do: switch compression off" in line for line in lines)
    assert lines[-1].startswith("result")
