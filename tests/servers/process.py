"""Starting a program, waiting until it answers, and stopping it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .store import Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_START_TIMEOUT_SECONDS = 60.0  # until a server must answer
_END_TIMEOUT_SECONDS = 5.0  # after each signal


def installed_here() -> Path:
    """Folder into which ``.ci/servers`` puts what comes by npm and pip."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("XARRAY_ND2_SERVERS") or Path(cache) / "xarray-nd2" / "servers")


def program(name: str, get_it: str) -> str:
    """Path of a program.

    Raises
    ------
    Missing
        It is not installed.
    """
    here = installed_here()
    places = [here / "node_modules" / ".bin", here / "venv" / "bin", "/usr/sbin", "/sbin"]
    search = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    found = shutil.which(name, path=search)
    if found is None:
        raise Missing(f"{name} is not installed: {get_it}, or .ci/servers")
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listening(port: int) -> bool:
    """Whether something accepts connections on a port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def run(*command: object, text: str = "") -> None:
    """Run a program to its end."""
    words = [*map(str, command)]
    subprocess.run(words, input=text.encode(), check=True, capture_output=True)


@contextmanager
def running(
    command: Sequence[object],
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a server in a process group of its own, and end that group.

    Yields
    ------
    int
        Its process id.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        until = time.monotonic() + _START_TIMEOUT_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                text = log.read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"{command[0]} did not start ({process.returncode}):\n{text}")
            time.sleep(0.01)
        yield process.pid
    finally:
        _end_process_group(process)


def _end_process_group(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        # Its children too: the group is its own, and is gone when the last of them is.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        until = time.monotonic() + _END_TIMEOUT_SECONDS
        while time.monotonic() < until:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                process.wait()
                return
            time.sleep(0.01)
    raise RuntimeError(f"process group {process.pid} does not end")
