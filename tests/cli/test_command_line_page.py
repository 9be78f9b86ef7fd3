"""The examples of the page on the command line, and of every help, run."""

from __future__ import annotations

import re
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
import s3fs

from tests.conftest import ROOT
from xarray_nd2.cli.app import new_app
from xarray_nd2.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import RangeServer, S3Server

PAGE = ROOT / "docs" / "command-line.md"


def examples() -> list[str]:
    """Lines that begin with the command: of the page, and of all helps."""
    app = new_app()
    epilogues = [app.help_epilogue, *(app[name].help_epilogue for name in app)]
    texts = [PAGE.read_text("utf-8"), *filter(None, epilogues)]
    found = [line for text in texts for line in re.findall(r"^ *(xarray-nd2 .*)$", text, re.M)]
    # The demo has tests of its own, and there is no profile here.
    return [line for line in dict.fromkeys(found) if " demo" not in line and "profile" not in line]


def test_there_are_examples() -> None:
    names = {line.split()[1] for line in examples()}
    assert names == {"info", "preview", "explain", "export", "doctor"}
    assert len(examples()) >= 15


@pytest.mark.parametrize("example", examples())
def test_example(
    example: str,
    run_file: Path,
    http: RangeServer,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(run_file, tmp_path / "run42.nd2")
    http.put("run42.nd2", run_file.read_bytes())
    s3.put("bucket", "run42.nd2", run_file.read_bytes())
    store = s3fs.S3FileSystem(**s3.storage_options)
    for path in ("bucket", "bucket/run42.nd2"):
        store.chmod(path, acl="public-read")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint_url)
    for name, option in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, s3.storage_options[option])
    line = example.replace("https://data.example.org/", http.url(""))
    assert main(shlex.split(line)[1:]) == 0
    printed = capsys.readouterr()
    assert printed.out
    assert not printed.err
