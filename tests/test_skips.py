"""Skipped tests are told of in few lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conftest import ROOT
from tests.skips import NO_CORPUS, skip_lines, skip_reason

if TYPE_CHECKING:
    from pathlib import Path


def test_one_line_for_what_can_be_had_and_one_for_each_other_reason() -> None:
    reasons = [
        *["nginx is not installed: apt-get install nginx-light, or .ci/servers"] * 3,
        "smbd is not installed: apt-get install samba, or .ci/servers",
        *[NO_CORPUS] * 2,
        *["only this process has it"] * 4,
        "a name like another",
    ]
    first = (
        "skipped 6 tests: 4 need servers that .ci/servers installs (nginx, smbd); "
        "2 need real files: set ND2_CORPUS to a folder of ND2 files"
    )
    assert skip_lines(reasons) == [
        first,
        "skipped 1: a name like another",
        "skipped 4: only this process has it",
    ]
    assert skip_lines(reasons[-1:]) == ["skipped 1: a name like another"]
    assert skip_lines([]) == []


def test_reason_of_a_report() -> None:
    assert skip_reason(("tests/test_a.py", 3, "Skipped: not today")) == "not today"
    assert skip_reason("not today") == "not today"


def test_run_without_servers_and_files(tmp_path: Path) -> None:
    """Where Azurite and the real files are missing, pytest says so in one line."""
    selection = ["tests/io/test_azure_urls.py", "tests/testing/test_writer.py"]
    chosen = ["-k", "azure_urls or test_real_"]
    environment = os.environ | {
        "XARRAY_ND2_SERVERS": str(tmp_path),
        "ND2_CORPUS": str(tmp_path),
        "PATH": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *selection, *chosen]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout
    told = [line for line in done.stdout.splitlines() if re.match("(?i)skipped", line)]
    [line] = [each for each in told if ".ci/servers" in each or "ND2_CORPUS" in each]
    assert re.match(r"skipped \d+ tests: \d+ need servers .*\(azurite-blob\); \d+ need real", line)
    counts = [int(re.findall(r"\d+", each)[0]) for each in told]
    [total] = re.findall(r"(\d+) skipped", done.stdout.splitlines()[-1])
    assert sum(counts) == int(total)
