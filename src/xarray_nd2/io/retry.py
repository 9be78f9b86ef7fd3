"""Reading a range, going on from where it broke, and trying again for as long as that may help.

Object stores refuse, delay and drop requests as a matter of course.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Final, TypeVar

from xarray_nd2.io.answers import Part
from xarray_nd2.io.failures import (
    BrokenOffError,
    GivenUpError,
    RangeIgnoredError,
    header_of,
    is_transient,
    is_unlikely_to_pass,
)
from xarray_nd2.io.watch import count_retry, warn_of_retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from xarray_nd2.io.answers import ObjectFacts
    from xarray_nd2.io.patience import Patience
    from xarray_nd2.io.transport import Transport

T = TypeVar("T")

MAX_ATTEMPTS: Final = 64  # for a range, and one for each of so many of its bytes:
BYTES_PER_ATTEMPT: Final = 8192
UNLIKELY_TO_PASS_SECONDS: Final = 10.0  # for failures that tell of what is there for longer
FIRST_PAUSE_SECONDS: Final = 0.05  # doubling with every attempt
MAX_PAUSE_SECONDS: Final = 5.0
MAX_RETRY_AFTER_SECONDS: Final = 30.0  # however long a store asks to wait


async def read_fully(
    transport: Transport,
    start: int,
    stop: int,
    patience: Patience,
    pinned: ObjectFacts | None = None,
) -> Part:
    """Read a range, in several attempts if need be.

    Parameters
    ----------
    transport : Transport
        Of the object.
    start, stop : int
        The range, bytes of the object.
    patience : Patience
        How long it may take.
    pinned : ObjectFacts, optional
        Of the object where they are known; then a body that ends too early is read on.

    Returns
    -------
    Part
        From `start`, all of it of one version of the object; it ends before `stop` only at the end
        of the object or when trying again did not help.

    Raises
    ------
    GivenUpError
        Trying again did not help.
    Exception
        What the transport raised, where trying again cannot help.
    """
    pieces = _Pieces(start, stop, pinned)
    futile = most = 0  # attempts since there were more bytes than ever before
    for attempt in range(1, 1 + MAX_ATTEMPTS + (stop - start) // BYTES_PER_ATTEMPT):
        failed: Exception | None = None
        patience.attempt_number = attempt
        try:
            pieces.add(await transport.read(start + pieces.size, stop, patience, pinned))
        except BrokenOffError as error:
            failed = error
            pieces.add(error.received)
        except Exception as error:  # noqa: BLE001  (raised below, where it lasts)
            failed = error
        if pieces.part is not None and pieces.complete:
            return pieces.part
        futile += 1
        if pieces.size > most:
            patience.renew(pieces.size - most)
            futile, most = 0, pieces.size
        if failed is not None and not is_transient(failed):
            raise failed
        pause_seconds = _next_pause_seconds(patience, failed, futile)
        if pause_seconds is None:
            if failed is not None:
                raise GivenUpError(attempt, patience.spent_seconds) from failed
            if pieces.part is not None:
                return pieces.part
            raise OSError("the store answers with one version of the object and another in turns")
        warn_of_retry(patience, failed, pause_seconds, (start, stop))
        await _pause(patience, pause_seconds)
    raise EOFError(f"{pieces.size} bytes came for {start}-{stop}")


async def persistently(ask: Callable[[Patience], Awaitable[T]], patience: Patience) -> T:
    """Ask a question of a store, again for as long as that may help.

    Raises
    ------
    GivenUpError
        Asking again did not help.
    Exception
        What `ask` raised, where asking again cannot help.
    """
    for attempt in itertools.count(1):
        patience.attempt_number = attempt
        try:
            return await ask(patience)
        except Exception as error:
            if not is_transient(error):
                raise
            pause_seconds = _next_pause_seconds(patience, error, attempt)
            if pause_seconds is None:
                raise GivenUpError(attempt, patience.spent_seconds) from error
            warn_of_retry(patience, error, pause_seconds)
        await _pause(patience, pause_seconds)
    raise AssertionError


async def _pause(patience: Patience, seconds: float) -> None:
    await patience.pause(seconds)
    count_retry(seconds)


def _next_pause_seconds(patience: Patience, failed: Exception | None, futile: int) -> float | None:
    """Seconds to wait before another attempt; None if there should be none."""
    # Without a failure too little came again and again, such as of a file that became shorter.
    unlikely = failed is None or is_unlikely_to_pass(failed)
    if unlikely and patience.spent_seconds >= UNLIKELY_TO_PASS_SECONDS:
        return None
    retry_after_seconds = 0.0 if failed is None else _retry_after_seconds(failed)
    pause_seconds = max(retry_after_seconds, _pause_seconds(futile))
    # An attempt needs some time after the pause, too.
    return (
        None if patience.is_exhausted or pause_seconds >= patience.left_seconds else pause_seconds
    )


class _Pieces:
    """What came of a range so far, all of it of one version of the object."""

    def __init__(self, start: int, stop: int, pinned: ObjectFacts | None) -> None:
        self._start, self._stop, self._pinned = start, stop, pinned
        self.part: Part | None = None

    @property
    def size(self) -> int:
        return 0 if self.part is None else len(self.part.data)

    @property
    def complete(self) -> bool:
        """Whether there is no more of it, as far as that is known."""
        facts = (self.part and self.part.facts) or self._pinned
        end = self._stop if facts is None else min(self._stop, facts.size)
        return facts is None or self._start + self.size >= end

    def add(self, part: Part) -> None:
        if self.part is None or not self.size:
            self.part = part
        elif self.part.facts and part.facts and not self.part.facts.agrees(part.facts):
            # Another version, perhaps from a copy that lags behind: begin again.
            self.part = None
        else:
            # Of several attempts the last one's time tells nothing of the link.
            data = b"".join([self.part.data, part.data])
            self.part = Part(self._start, data, self.part.facts or part.facts)
        if self.size > self._stop - self._start:
            raise RangeIgnoredError("the store answers with more than the range asked for")


def _retry_after_seconds(error: Exception) -> float:
    asked = header_of(error, "retry-after")  # or a date, which few stores give
    return min(float(asked), MAX_RETRY_AFTER_SECONDS) if asked.isdecimal() else 0.0


def _pause_seconds(futile: int) -> float:
    """Pause that doubles with every futile attempt, with jitter so that clients spread."""
    longest = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** max(0, futile - 1))
    return longest * random.uniform(0.5, 1.0)
