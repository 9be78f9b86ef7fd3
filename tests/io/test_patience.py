"""How long a range may take, on a clock that the test moves; and who is not tried again."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import xarray as xr

from xarray_nd2 import ND2SourceError
from xarray_nd2.io import retry
from xarray_nd2.io.answers import ObjectFacts, Part
from xarray_nd2.io.failures import BrokenOffError, StatusError, is_transient
from xarray_nd2.io.patience import (
    LEAST_BYTES_PER_SECOND,
    LEAST_UNSEEN_BYTES_PER_SECOND,
    PATIENCE_SECONDS,
    Patience,
)
from xarray_nd2.io.retry import read_fully

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

MIB = 1024 * 1024
MAX_SECONDS = 120  # that any range may take without sufficient progress


class ClockedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing else is to be done."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def on_the_clock(work: Coroutine[Any, Any, Any]) -> tuple[Any, float]:
    """Result of a coroutine, or what it raised, and the seconds that it took."""
    with asyncio.Runner(loop_factory=ClockedLoop) as runner:
        loop = runner.get_loop()
        try:
            result: Any = runner.run(work)
        except Exception as error:  # noqa: BLE001  (looked at by the test)
            result = error
        return result, loop.time()


class Store:
    """A store whose answers bring ``rate(seconds)`` bytes a second from so many seconds on."""

    def __init__(self, rate: Callable[[float], float], size: int, *, seen: bool = True) -> None:
        self.rate, self.size, self.seen = rate, size, seen
        self.attempts = 0

    async def read(self, start: int, stop: int, patience: Patience, pinned: Any = None) -> Part:
        self.attempts += 1
        loop, received = asyncio.get_running_loop(), 0.0
        attempt = (
            patience.attempt(lambda: int(received))
            if self.seen
            else patience.attempt(unseen_bytes=stop - start)
        )
        try:
            async with attempt:
                while received < stop - start:
                    await asyncio.sleep(0.5)
                    received += 0.5 * self.rate(loop.time())
        except TimeoutError as error:
            if int(received) and self.seen:
                part = Part(start, bytes(int(received)), ObjectFacts(self.size, "x"))
                raise BrokenOffError(part) from error
            raise
        return Part(start, bytes(stop - start), ObjectFacts(self.size, "x"))


def read(store: Any, size: int) -> tuple[Any, float]:
    return on_the_clock(read_fully(store, 0, size, Patience(), ObjectFacts(size, "x")))


@pytest.mark.parametrize("rate", [0, 1, 10, 100, 0.9 * LEAST_BYTES_PER_SECOND])
@pytest.mark.parametrize("from_second", [0, 12, 100])
def test_too_slow(rate: float, from_second: float) -> None:
    """However fast it was before, and however long."""
    size = int(4e5 * from_second) + 4 * MIB
    store: Any = Store(lambda now: rate if now >= from_second else 4e5, size)
    error, seconds = read(store, size)
    assert isinstance(error, OSError)
    assert PATIENCE_SECONDS * 0.9 <= seconds - from_second <= MAX_SECONDS


@pytest.mark.parametrize("size", [100, 20_000, MIB, 4 * MIB])
def test_trickled_from_the_start(size: int) -> None:
    error, seconds = read(Store(lambda _: 1, size), size)
    if size > MAX_SECONDS:
        assert isinstance(error, OSError)
    assert seconds <= MAX_SECONDS


@pytest.mark.parametrize("seen", [True, False])
def test_slow_but_sure(seen: bool) -> None:
    """64 MiB in 16 ranges over a link of 0.3 MB/s, of which each has a share, take 224 s."""
    store: Any = Store(lambda _: 0.3e6 / 16, 4 * MIB, seen=seen)
    part, seconds = read(store, 4 * MIB)
    assert isinstance(part, Part)
    assert store.attempts == 1
    assert 200 < seconds < 240


def test_more_ranges_than_usual_on_a_slow_link() -> None:
    part, seconds = read(Store(lambda _: 0.3e6 / 64, MIB), MIB)
    assert isinstance(part, Part)
    assert seconds > MAX_SECONDS


def test_unseen_silence() -> None:
    """The time that the slowest of links would need is added once."""
    error, seconds = read(Store(lambda _: 0, MIB, seen=False), MIB)
    assert isinstance(error, OSError)
    assert seconds >= PATIENCE_SECONDS * 0.9
    assert seconds <= PATIENCE_SECONDS + MIB / LEAST_UNSEEN_BYTES_PER_SECOND


class Refusing:
    """A store that refuses until some second, and may take its time to do so."""

    def __init__(self, until: float, error: Exception, takes: float = 0.0) -> None:
        self.until, self.error, self.takes = until, error, takes
        self.attempts = 0

    async def read(self, start: int, stop: int, patience: Patience, pinned: Any = None) -> Part:
        self.attempts += 1
        async with patience.attempt():
            await asyncio.sleep(self.takes)
            if asyncio.get_running_loop().time() < self.until:
                raise self.error
        return Part(start, bytes(stop - start), ObjectFacts(100, "x"))


BUSY = StatusError(503, "Slow Down")


@pytest.mark.parametrize("seconds", [4, 12, 30, 60, 80])
@pytest.mark.parametrize("takes", [0, 2])
def test_refused_for_a_while(seconds: float, takes: float) -> None:
    store: Any = Refusing(seconds, BUSY, takes)
    part, took = read(store, 100)
    assert isinstance(part, Part)
    assert took <= seconds + retry.MAX_PAUSE_SECONDS + takes
    assert store.attempts < 10 + took / (0.5 * retry.MAX_PAUSE_SECONDS)


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (BUSY, PATIENCE_SECONDS),
        (StatusError(503, "Slow Down", {"Retry-After": "3600"}), PATIENCE_SECONDS),
        (ConnectionRefusedError("nobody there"), 20),
    ],
)
def test_refused_for_ever(error: Exception, most: float) -> None:
    raised, seconds = read(Refusing(1e9, error), 100)
    assert raised.__cause__ is error
    assert 10 <= seconds <= most
    assert "given up after" in str(raised)


def test_drops_with_long_pauses_between_them() -> None:
    """However much a drop is for the moment in which it comes."""

    class Dripping:
        attempts = 0

        async def read(self, start: int, stop: int, patience: Patience, pinned: Any = None) -> Part:
            self.attempts += 1
            async with patience.attempt():
                await asyncio.sleep(0.01)
                if self.attempts % 2:
                    raise StatusError(503, "Slow Down", {"Retry-After": "20"})
            raise BrokenOffError(Part(start, bytes(100), ObjectFacts(MIB, "x")))

    error, seconds = read(Dripping(), MIB)
    assert isinstance(error, OSError)
    assert seconds <= MAX_SECONDS


def test_a_process_that_was_stopped() -> None:
    """When it goes on, what it missed is asked for again."""

    class Stopped(Store):
        async def read(self, start: int, stop: int, patience: Patience, pinned: Any = None) -> Part:
            loop: Any = asyncio.get_running_loop()
            if self.attempts == 0:
                loop.call_later(1, lambda: setattr(loop, "now", loop.now + 3600))
            return await super().read(start, stop, patience, pinned)

    store: Any = Stopped(lambda now: 1e6 if now > 3600 else 0, MIB)
    part, _ = read(store, MIB)
    assert isinstance(part, Part)


def caused_by(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "transient"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (ssl.SSLCertVerificationError(1, "self-signed certificate"), False),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), True),
        (ConnectionRefusedError("nobody listens"), True),
    ],
)
def test_what_can_pass(cause: Exception, transient: bool) -> None:
    assert is_transient(caused_by(ConnectionError("cannot connect"), cause)) is transient
    assert is_transient(caused_by(FileNotFoundError("so says a cache"), BUSY))
    assert not is_transient(FileNotFoundError("not there"))


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: Patience, seconds: float) -> None:
        raise AssertionError("it was tried again")

    monkeypatch.setattr(Patience, "pause", never)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("http://no-such-host.invalid/run.nd2", {}),
        (
            "s3://bucket/run.nd2",
            {"key": "a", "secret": "b", "endpoint_url": "http://no-such-host.invalid"},
        ),
    ],
)
def test_hosts_that_are_not_there(
    target: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def unknown(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith("invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ND2SourceError, match="opening: .*no-such-host"):
        xr.open_dataset(target, engine="nd2", storage_options=options)


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan")])
def test_patience_that_is_none(wrong: float) -> None:
    with pytest.raises(ValueError, match="patience_seconds must be above 0 and finite"):
        xr.open_dataset("run.nd2", engine="nd2", patience_seconds=wrong)
