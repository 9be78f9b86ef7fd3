"""Watching requests as they are made, for whoever traces this process, and for the log.

Nearly always nobody looks. So a transport asks for a watch before each request, and gets one that does
nothing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Self

from xarray_nd2.io.process import this_process
from xarray_nd2.io.recorder import OUTCOME_OK, TracedRequest
from xarray_nd2.io.secrets import public_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from xarray_nd2.io.patience import Patience
    from xarray_nd2.io.recorder import Recorder
    from xarray_nd2.io.secrets import NamedFile

logger = logging.getLogger("xarray_nd2")
# Who wants to see it says so; without this, Python would print warnings by itself.
logger.addHandler(logging.NullHandler())


class NoWatch:
    """Watches nothing: what transports tell when nobody looks.

    A transport says `begin` when it sends a request, `receives` how to count what comes of it, and
    `end` where another follows, such as after a redirect. The end of the context is the end of the last.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        pass

    def begin(self) -> None:
        """Note that a request is sent now."""

    def receives(self, received: Callable[[], int]) -> None:
        """Note who tells how many bytes of the body came so far."""

    def end(self, outcome: BaseException | str | None) -> None:
        """Note that the request is over, and what went wrong if anything did."""


NOT_WATCHED: Final = NoWatch()


class Watch(NoWatch):
    """Watches the requests of one attempt to read a range, which come one after the other."""

    __slots__ = (
        *("_asked", "_attempt", "_began", "_file", "_received", "_recorders"),
        *("_started_at", "_under_way"),
    )

    def __init__(
        self,
        patience: Patience,
        start: int | None,
        stop: int | None,
        recorders: Iterable[Recorder],
    ) -> None:
        self._file, self._attempt = patience.file, patience.attempt_number
        self._asked = start, stop
        self._recorders = recorders
        self._under_way = False

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.end(error)

    def begin(self) -> None:
        self._under_way = True
        self._received: Callable[[], int] | None = None
        self._started_at, self._began = time.time(), time.monotonic()

    def receives(self, received: Callable[[], int]) -> None:
        self._received = received

    def end(self, outcome: BaseException | str | None) -> None:
        if not self._under_way:
            return
        self._under_way = False
        request = TracedRequest(
            self._started_at,
            time.monotonic() - self._began,
            _name_of(self._file),
            *self._asked,
            self._received() if self._received else 0,
            self._attempt,
            _in_words(outcome, self._file),
        )
        for recorder in self._recorders:
            recorder.add_request(request)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "%s, %s, attempt %d: %d bytes in %.3g s, %s",
                request.name,
                _place_of(*self._asked),
                request.attempt,
                request.received_bytes,
                request.seconds,
                request.outcome,
            )


def watch_of(patience: Patience, start: int | None = None, stop: int | None = None) -> NoWatch:
    """Context that is told of the requests of one attempt.

    Parameters
    ----------
    patience : Patience
        Of the range.
    start, stop : int or None
        Bytes that are asked for, as in a slice.
    """
    recorders = this_process().recorders
    if recorders or logger.isEnabledFor(logging.DEBUG):
        return Watch(patience, start, stop, recorders.values())
    return NOT_WATCHED


def warn_of_retry(
    patience: Patience,
    failed: Exception | None,
    pause_seconds: float,
    place: tuple[int, int] | None = None,
) -> None:
    """Log what an attempt failed by after which there is another."""
    if logger.isEnabledFor(logging.WARNING):
        logger.warning(
            "%s, %s, attempt %d failed, another in %.2g s: %s",
            _name_of(patience.file),
            _place_of(*(place or (None, None))),
            patience.attempt_number,
            pause_seconds,
            "too little came" if failed is None else _in_words(failed, patience.file),
        )


def count_retry(waited_seconds: float) -> None:
    """Count an attempt that is about to be made after others."""
    for recorder in this_process().recorders.values():
        recorder.add_retry(waited_seconds)


def count_local(ranges: Iterable[tuple[int, int]]) -> None:
    """Count ranges that were read from what is at hand."""
    recorders = this_process().recorders
    if recorders:
        count = sum(stop - start for start, stop in ranges)
        for recorder in recorders.values():
            recorder.add_local(count)


def _name_of(file: NamedFile | None) -> str:
    return "" if file is None else file.name


def _place_of(start: int | None, stop: int | None) -> str:
    if start is None:
        return "what it is"
    return f"the last {-start} bytes" if stop is None else f"bytes {start}-{stop}"


def _in_words(outcome: BaseException | str | None, file: NamedFile | None) -> str:
    """What came of a request, without secrets."""
    if outcome is None:
        return OUTCOME_OK
    if isinstance(outcome, str):
        return outcome
    hide = public_text if file is None else file.hide
    text = hide(str(outcome))
    return f"{type(outcome).__name__}: {text}" if text else type(outcome).__name__
