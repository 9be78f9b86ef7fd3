"""An HTTP server in a process of its own, so that it takes no time from the client's.

It can be made slower or faster, and tells what it was asked for.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._worker import worker_process
from xarray_nd2.testing import RangeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


LAN_NETWORK = Network("LAN", 0.001, 800e6)
CLOUD_NETWORK = Network("cloud", 0.02, 100e6)
WAN_NETWORK = Network("WAN", 0.08, 10e6)
LATENCY_ONLY_NETWORK = Network("latency only", 0.02)
FAR_NETWORK = Network("far", 0.05)
LOOPBACK_NETWORK = Network("loopback", 0.0)


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
    """A `RangeServer` in another process, which `serving` starts.

    Parameters
    ----------
    network : Network
        How slow it is.
    ask : callable
        Calls a function of the process: ``ask(what, *values)``.
    """

    def __init__(self, network: Network, ask: Callable[..., Any]) -> None:
        self.network = network
        self._ask = ask
        self._base: str = ask("url")

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


@contextmanager
def serving(folder: Path, network: Network) -> Iterator[Server]:
    """Serve the files of a folder from another process, as slowly as a network."""
    with worker_process(_start_server, str(folder), network.latency, network.bandwidth) as ask:
        yield Server(network, ask)


def _start_server(folder: str, latency: float, bandwidth: float | None) -> Callable[..., Any]:
    server = RangeServer(folder, latency=latency, bandwidth=bandwidth)
    server.__enter__()  # it ends with the process
    return partial(_answer, server)


def _answer(server: RangeServer, what: str, *values: Any) -> Any:
    if what == "url":
        return server.url("")
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
