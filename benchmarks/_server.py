"""An HTTP server in a process of its own, so that it takes no time from the client's.

The process answers messages on a pipe: it can be made slower or faster, and tells what it was asked
for.
"""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from xarray_nd2.testing import RangeServer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Network:
    """What lies between the client and the files.

    Attributes
    ----------
    name : str
        What to call it.
    latency : float
        Seconds before each answer.
    bandwidth : float or None
        Bytes per second of all connections together; None for no limit.
    """

    name: str
    latency: float
    bandwidth: float | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.delays})"

    @property
    def delays(self) -> str:
        """Latency, and bandwidth where it is limited."""
        latency = f"{self.latency * 1e3:.0f} ms"
        return latency if self.bandwidth is None else f"{latency}, {self.bandwidth / 1e6:.0f} MB/s"


LAN = Network("LAN", 0.001, 800e6)
CLOUD = Network("cloud", 0.02, 100e6)
WAN = Network("WAN", 0.08, 10e6)
LATENCY = Network("latency only", 0.02)
FAR = Network("far", 0.05)
LOOPBACK = Network("loopback", 0.0)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a server was asked for.

    Attributes
    ----------
    requests, nbytes : int
        Number of requests, and bytes of their bodies.
    round_trips : int
        Length of the longest chain of requests that waited for each other.
    ranges : tuple of (int, int)
        The byte ranges that were asked for.
    """

    requests: int
    nbytes: int
    round_trips: int
    ranges: tuple[tuple[int, int], ...]


class Server:
    """A `RangeServer` in a process of its own.

    Parameters
    ----------
    folder : Path
        Files to serve.
    network : Network
        How slow to be.
    """

    def __init__(self, folder: Path, network: Network) -> None:
        context = multiprocessing.get_context("spawn")
        self.network = network
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(str(folder), network.latency, network.bandwidth, theirs),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._base: str = self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(BrokenPipeError):
            self._pipe.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()
        self._pipe.close()

    def url(self, path: Path) -> str:
        """URL of a file or folder in the served folder."""
        return self._base + path.name

    def become(self, network: Network) -> None:
        """Be as slow as another network from now on."""
        self.network = network
        self._ask("become", network.latency, network.bandwidth)

    def clear(self) -> None:
        """Forget all requests."""
        self._ask("clear")

    def traffic(self) -> Traffic:
        """All requests since the log was cleared."""
        return Traffic(*self._ask("traffic"))

    def _ask(self, *message: Any) -> Any:
        self._pipe.send(message)
        return self._pipe.recv()


def _serve(folder: str, latency: float, bandwidth: float | None, pipe: Connection) -> None:
    with (
        RangeServer(folder, latency=latency, bandwidth=bandwidth) as server,
        suppress(EOFError, KeyboardInterrupt),  # the client is gone
    ):
        pipe.send(server.url(""))
        while (message := pipe.recv()) is not None:
            pipe.send(_answer(server, *message))


def _answer(server: RangeServer, what: str, *values: Any) -> Any:
    if what == "become":
        server.latency, server.bandwidth = values
        return None
    if what == "clear":
        server.log.clear()
        return None
    log = server.log
    ranges = tuple(
        (entry.start, entry.stop)
        for entry in log.entries
        if entry.start is not None and entry.stop is not None
    )
    return log.requests, log.bytes, log.round_trips, ranges
