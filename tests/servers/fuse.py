"""A mounted share that is slow, fails or hangs as the tests want: FUSE, by mfusepy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .process import installed_here, program, running
from .store import Missing, put_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GET_IT = "apt-get install fuse3, and .ci/servers for mfusepy"
# What it does with each call is read from a file, which the tests replace.
_SHARE_SCRIPT = """
import errno, itertools, json, os, sys, time
import mfusepy

root, mountpoint, control, log = sys.argv[1:]
counter = itertools.count(1)
log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def behave(call, detail=""):
    os.write(log, f"{call} {detail}\\n".encode())
    number = next(counter)
    while True:
        with open(control) as file:
            wanted = json.load(file)
        if call not in wanted["calls"]:
            return
        if not wanted["hangs"]:
            break
        time.sleep(0.01)
    time.sleep(wanted["delay_seconds"])
    if wanted["errno"] and number % wanted["every"] == 0:
        raise OSError(wanted["errno"], os.strerror(wanted["errno"]))

class Share(mfusepy.Operations):
    use_ns = True

    def getattr(self, path, fh=None):
        behave("stat", path)
        found = os.lstat(root + path)
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
        times = {f"st_{kind}time": getattr(found, f"st_{kind}time_ns") for kind in "amc"}
        return {name: getattr(found, name) for name in names} | times

    def readdir(self, path, fh):
        return [".", "..", *os.listdir(root + path)]

    def open(self, path, flags):
        behave("open", path)
        return os.open(root + path, flags)

    def read(self, path, size, offset, fh):
        behave("read", f"{offset} {size}")
        return os.pread(fh, size, offset)

    def release(self, path, fh):
        os.close(fh)

# What it says of a file is never remembered, so that one that was replaced is noticed at once.
mfusepy.FUSE(
    Share(), mountpoint, foreground=True, ro=True, use_ino=True,
    attr_timeout=0, entry_timeout=0, negative_timeout=0,
)
"""


@dataclass(frozen=True)
class FuseShare:
    """A share that is mounted.

    Attributes
    ----------
    path : Path
        Where it is mounted.
    put : callable
        Stores bytes under a name; replaces what is there.
    pid : int
        Of its server.
    """

    path: Path
    put: Callable[[str, bytes], None]
    pid: int
    _control: Path
    _log: Path

    def behave(
        self,
        *calls: str,
        delay_seconds: float = 0.0,
        errno: int = 0,
        every: int = 1,
        hangs: bool = False,
    ) -> None:
        """Do with some calls (of "stat", "open", "read"; by default with none) what is told.

        Parameters
        ----------
        *calls : str
            The calls.
        delay_seconds : float
            To wait before each answer.
        errno : int
            To answer with, every so many calls; 0 for none.
        every : int
            As above.
        hangs : bool
            Whether to answer only when the share is told to behave otherwise.
        """
        _tell(
            self._control,
            {
                "calls": calls,
                "delay_seconds": delay_seconds,
                "errno": errno,
                "every": every,
                "hangs": hangs,
            },
        )

    def calls(self) -> list[str]:
        """Calls since this was asked last, each the kind and what it is about."""
        lines = self._log.read_text("utf-8").splitlines()
        os.truncate(self._log, 0)
        return lines


def _tell(control: Path, wanted: dict[str, Any]) -> None:
    part = control.with_suffix(".part")
    part.write_text(json.dumps(wanted), "utf-8")
    part.replace(control)


@contextmanager
def serve(folder: Path) -> Iterator[FuseShare]:
    """Mount a share, and unmount it."""
    if not sys.platform.startswith("linux") or not Path("/dev/fuse").exists():
        raise Missing("this machine has no /dev/fuse")
    unmount = program("fusermount3", _GET_IT)
    python = installed_here() / "venv" / "bin" / "python"
    try:
        subprocess.run([python, "-c", "import mfusepy"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise Missing(f"mfusepy is not installed: {_GET_IT}") from None
    files, mounted, control = folder / "files", folder / "share", folder / "control.json"
    for each in (files, mounted):
        each.mkdir(parents=True)
    arguments = [python, "-c", _SHARE_SCRIPT, files, mounted, control, folder / "calls"]
    _tell(control, {"calls": []})
    log = folder / "log"
    try:
        with running(arguments, log, lambda: os.path.ismount(mounted)) as pid:
            share = FuseShare(mounted, put_into(files), pid, control, folder / "calls")
            try:
                yield share
            finally:
                share.behave()  # whoever still waits for an answer gets it
    except RuntimeError as error:
        if "did not start" in str(error) and "ermission denied" in str(error):
            raise Missing(f"mounting is not allowed here: {error}") from None
        raise
    finally:
        # At once, and whoever still has a file of it open.
        with suppress(subprocess.CalledProcessError):
            subprocess.run([unmount, "-u", "-z", mounted], check=True, capture_output=True)
