"""Whether a failed read is worth another try, and the trying.

Object stores refuse, delay and drop requests as a matter of course. Such a failure is told from a
lasting one by its HTTP status or its kind, whichever client library raised it.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from xarray_nd2._transport import BrokenOffError, Part, RangeIgnoredError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_nd2._transport import Transport

ATTEMPTS: Final = 8  # that bring nothing, one after the other
MOST_ATTEMPTS: Final = 64  # of which each may bring a little
FIRST_PAUSE: Final = 0.05  # seconds, doubling with every attempt
LONGEST_PAUSE: Final = 5.0
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT_KINDS = (TimeoutError, ConnectionError, BrokenOffError)
# Connection trouble by the names of its exceptions, since none of these clients is always there.
_TRANSIENT_NAMES = frozenset(
    {
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",
        "HTTPClientError",  # botocore, aiobotocore
        "ResponseStreamingError",
        "IncompleteReadError",
        "ServiceRequestError",  # azure
        "ServiceResponseError",
        "SMBConnectionClosed",
    }
)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, what caused it, what caused that, and so on."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def status_of(error: BaseException) -> int | None:
    """HTTP status behind an error of some client library, or None."""
    return next((status for status in map(_own_status, causes(error)) if status), None)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later; of all causes the nearest that tells decides."""
    for cause in causes(error):
        if isinstance(cause, (FileNotFoundError, PermissionError, RangeIgnoredError)):
            return False
        names = {kind.__name__ for kind in type(cause).__mro__}
        if isinstance(cause, _TRANSIENT_KINDS) or names & _TRANSIENT_NAMES:
            return True
        status = _own_status(cause)
        if status is not None and status >= 400:
            return status in _TRANSIENT_STATUS
    return False


def _own_status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)  # botocore
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status, int):
            return status
    for name in ("status", "status_code", "code"):  # aiohttp; azure; gcsfs
        status = getattr(error, name, None)
        if isinstance(status, int) and 100 <= status < 600:
            return status
    return None


async def read_fully(transport: Transport, start: int, stop: int, size: int | None = None) -> Part:
    """Read a range, going on from where it broke for as long as that may help.

    Parameters
    ----------
    transport : Transport
        Of the object.
    start, stop : int
        The range, bytes of the object.
    size : int, optional
        Size of the object where it is known; then a body that ends too early is read on.

    Returns
    -------
    Part
        From `start`; it ends before `stop` only at the end of the object or when trying again
        did not help.

    Raises
    ------
    Exception
        What the transport raised last, where trying again did not help or cannot.
    """
    received = bytearray()
    futile = 0  # attempts since the last that brought bytes
    for _ in range(MOST_ATTEMPTS):
        known = len(received)
        last = futile + 1 == ATTEMPTS
        try:
            part = await transport.read(start + known, stop)
        except Exception as error:
            if isinstance(error, BrokenOffError):
                # Not the last byte, so that there is an answer to tell the facts.
                received += error.received[: stop - start - known - 1]
            if not is_transient(error) or (last and len(received) == known):
                raise
        else:
            data = received + bytes(part.data) if received else part.data
            end = part.facts.size if part.facts else size
            if len(data) > stop - start:
                raise RangeIgnoredError("the store answers with more than the range asked for")
            complete = end is None or start + len(data) >= min(stop, end)
            if complete or (last and len(data) == known):
                # Of several attempts the last one's time tells nothing of the link.
                first_byte = None if received else part.first_byte
                return Part(start, data, part.facts, first_byte)
            received = bytearray(data)
        futile = futile + 1 if len(received) == known else 0
        await asyncio.sleep(_pause(futile))
    raise EOFError(f"{len(received)} bytes came for {start}-{stop}")


def _pause(futile: int) -> float:
    """Seconds to wait: doubling with every futile attempt, with jitter so that clients spread."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** max(0, futile - 1))
    return longest * random.uniform(0.5, 1.0)
