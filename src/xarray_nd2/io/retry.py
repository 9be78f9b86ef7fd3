"""Reading a range, going on from where it broke, and trying again for as long as that may help.

Object stores refuse, delay and drop requests as a matter of course.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from xarray_nd2.io.answers import Part
from xarray_nd2.io.failures import BrokenOffError, RangeIgnoredError, header_of, is_transient

if TYPE_CHECKING:
    from xarray_nd2.io.answers import ObjectFacts
    from xarray_nd2.io.transport import Transport

MAX_FUTILE_ATTEMPTS: Final = 8  # that bring nothing, one after the other
MAX_ATTEMPTS: Final = 64  # for a range, and one for each of so many of its bytes:
BYTES_PER_ATTEMPT: Final = 8192
FIRST_PAUSE_SECONDS: Final = 0.05  # doubling with every attempt
MAX_PAUSE_SECONDS: Final = 5.0
MAX_RETRY_AFTER_SECONDS: Final = 30.0  # however long a store asks to wait


async def read_fully(
    transport: Transport, start: int, stop: int, pinned: ObjectFacts | None = None
) -> Part:
    """Read a range, in several attempts if need be.

    Parameters
    ----------
    transport : Transport
        Of the object.
    start, stop : int
        The range, bytes of the object.
    pinned : ObjectFacts, optional
        Of the object where they are known; then a body that ends too early is read on.

    Returns
    -------
    Part
        From `start`, all of it of one version of the object; it ends before `stop` only at the end
        of the object or when trying again did not help.

    Raises
    ------
    Exception
        What the transport raised last, where trying again did not help or cannot.
    """
    pieces = _Pieces(start, stop, pinned)
    futile = most = 0  # attempts since there were more bytes than ever before
    for _ in range(MAX_ATTEMPTS + (stop - start) // BYTES_PER_ATTEMPT):
        retry_after = 0.0
        last = futile + 1 >= MAX_FUTILE_ATTEMPTS
        failed: Exception | None = None
        try:
            pieces.add(await transport.read(start + pieces.size, stop, pinned))
        except BrokenOffError as error:
            failed = error
            pieces.add(error.received)
        except Exception as error:  # noqa: BLE001  (raised below, where it lasts)
            failed = error
        stalled = last and pieces.size <= most
        if pieces.part is not None and (pieces.complete or (stalled and failed is None)):
            return pieces.part
        if failed is None and stalled:
            raise OSError("the store answers with one version of the object and another in turns")
        if failed is not None:
            if stalled or not is_transient(failed):
                raise failed
            retry_after = _retry_after_seconds(failed)
        futile = 0 if pieces.size > most else futile + 1
        most = max(most, pieces.size)
        await asyncio.sleep(max(retry_after, _pause_seconds(futile)))
    raise EOFError(f"{pieces.size} bytes came for {start}-{stop}")


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
