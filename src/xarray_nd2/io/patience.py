"""How long a range may take: a least rate for each attempt, and patience with all of them.

A store may be silent, trickle, or refuse again and again. What counts is *sufficient progress*:
`LEAST_BYTES_PER_SECOND` on the average of each window of `Patience.attempt_seconds`. An attempt without it
is ended, since another connection may do better. After `PATIENCE_SECONDS` without it the range is given up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from xarray_nd2.io.secrets import NamedFile

PATIENCE_SECONDS: Final = 90.0
"""Without sufficient progress after which a range is given up, unless the caller says otherwise."""

ATTEMPTS_PER_PATIENCE: Final = 3  # that may be silent until their end
LEAST_SHARE_OF_ATTEMPT: Final = 0.1  # of `attempt_seconds` that must be left for another attempt
LEAST_BYTES_PER_SECOND: Final = 1024  # of one range; 64 of them share the link
# Where bytes are seen only when all are there, so that slow cannot be told from silent.
LEAST_UNSEEN_BYTES_PER_SECOND: Final = 16 * 1024


class Patience:
    """What is left of the time that one range may go on without sufficient progress.

    Time in which a range waits for its turn is not counted, nor is any in which the process itself
    was stopped.

    Parameters
    ----------
    seconds : float
        To begin with, and again after any progress.
    file : NamedFile, optional
        That the range is of, for what is told of its attempts.

    Attributes
    ----------
    attempt_number : int
        Of the attempt that is made now; the first is 1.
    """

    __slots__ = (
        *("_idle_seconds", "_new_bytes", "_seconds", "_spent_seconds"),
        *("attempt_number", "file"),
    )

    def __init__(self, seconds: float = PATIENCE_SECONDS, file: NamedFile | None = None) -> None:
        self.file = file
        self.attempt_number = 1
        self._seconds = seconds
        self._spent_seconds = 0.0
        self._idle_seconds = 0.0  # at the end of the last attempt
        self._new_bytes = 0

    @property
    def left_seconds(self) -> float:
        """What is left."""
        return max(0.0, self._seconds - self._spent_seconds)

    @property
    def is_exhausted(self) -> bool:
        """Whether too little is left for another attempt."""
        return self.left_seconds < self.attempt_seconds * LEAST_SHARE_OF_ATTEMPT

    @property
    def attempt_seconds(self) -> float:
        """After which an attempt is ended that brings nothing."""
        return self._seconds / ATTEMPTS_PER_PATIENCE

    @property
    def spent_seconds(self) -> float:
        """Without sufficient progress so far."""
        return self._spent_seconds

    def attempt(self, received: Callable[[], int] | None = None, unseen_bytes: int = 0) -> _Attempt:
        """Context of one attempt, which it ends with a `TimeoutError`.

        Parameters
        ----------
        received : callable, optional
            Tells how many bytes came in this attempt so far; without it, none can be seen.
        unseen_bytes : int
            Bytes that cannot be seen before all of them are there, for which more time is given.
        """
        seconds = min(self.attempt_seconds, self.left_seconds)
        return _Attempt(self, seconds + unseen_bytes / LEAST_UNSEEN_BYTES_PER_SECOND, received)

    async def pause(self, seconds: float) -> None:
        """Wait before another attempt."""
        self._spent_seconds += seconds
        await asyncio.sleep(seconds)

    def renew(self, new_bytes: int) -> None:
        """Begin anew after an attempt, if what came since this was done last came quickly enough.

        `new_bytes` of the attempt had not come before.
        """
        self._new_bytes += new_bytes
        if self._new_bytes >= self._spent_seconds * LEAST_BYTES_PER_SECOND:
            self._spent_seconds = self._idle_seconds
            self._new_bytes = 0

    def spend(self, idle_seconds: float) -> None:
        """Count the time from an attempt's last sufficient progress to its end."""
        self._idle_seconds = idle_seconds
        self._spent_seconds += idle_seconds


class _Attempt:
    """One attempt, in windows of time each of which has to bring enough."""

    __slots__ = (
        *("_cancelling", "_ended", "_idle_since", "_loop", "_patience", "_received"),
        *("_seconds", "_seen_bytes", "_task", "_timer"),
    )

    def __init__(
        self, patience: Patience, seconds: float, received: Callable[[], int] | None
    ) -> None:
        self._patience, self._seconds, self._received = patience, seconds, received
        self._seen_bytes = 0
        self._ended = False

    async def __aenter__(self) -> None:
        # What `asyncio.timeout` does takes as long as all else around a small request.
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._idle_since = self._loop.time()
        self._timer = self._loop.call_later(self._seconds, self._look)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        idle = self._loop.time() - self._idle_since
        # For longer only if the process was stopped meanwhile.
        self._patience.spend(min(idle, self._seconds))
        if not self._ended:
            return
        # If others wanted it cancelled as well, cancelled it is.
        only_here = self._task.uncancel() <= self._cancelling
        if only_here and isinstance(error, asyncio.CancelledError):
            what = "no answer came"
            if self._received is not None and self._received():
                what = f"less than {LEAST_BYTES_PER_SECOND} bytes a second came"
            raise TimeoutError(f"{what} in {self._seconds:.3g} s") from error

    def _look(self) -> None:
        """End the attempt at the end of a window that did not bring enough."""
        received = self._received() if self._received else 0
        now = self._loop.time()
        if received - self._seen_bytes < max(1, self._seconds * LEAST_BYTES_PER_SECOND):
            self._ended = True
            self._task.cancel()
            return
        self._seen_bytes, self._idle_since = received, now
        self._timer = self._loop.call_later(self._seconds, self._look)
