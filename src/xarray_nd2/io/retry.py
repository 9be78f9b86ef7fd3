"""Why a read failed, whether it is worth another try, and the trying.

Object stores refuse, delay and drop requests as a matter of course. Such a failure is told from a
lasting one by its HTTP status or its kind, whichever client library raised it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from xarray_nd2.io.transport import BrokenOffError, Part, RangeIgnoredError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_nd2.io.transport import ObjectFacts, Transport

ATTEMPTS: Final = 8  # that bring nothing, one after the other
MOST_ATTEMPTS: Final = 64  # and one for each of so many bytes of the range:
_LEAST_PROGRESS: Final = 8192
FIRST_PAUSE: Final = 0.05  # seconds, doubling with every attempt
LONGEST_PAUSE: Final = 5.0
LONGEST_WISH: Final = 30.0  # seconds that a store may ask for
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})
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
        "ProxyError",  # requests, which gcsfs uses for its errors
        "SMBConnectionClosed",
    }
)
# Credentials that are wrong, or nowhere to be found.
_REFUSAL_NAMES = frozenset(
    {
        "NoCredentialsError",  # botocore
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "TokenRetrievalError",
        "SSOError",
        "ClientAuthenticationError",  # azure
        "GoogleAuthError",
        "AuthenticationException",  # paramiko
        "SMBAuthenticationError",
        "LogonFailure",  # smbprotocol
        "AccessDenied",
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
        if isinstance(cause, RangeIgnoredError):
            return cause.passing
        if isinstance(cause, (FileNotFoundError, PermissionError)):
            return False
        names = {kind.__name__ for kind in type(cause).__mro__}
        if isinstance(cause, _TRANSIENT_KINDS) or names & _TRANSIENT_NAMES:
            return True
        status = _own_status(cause)
        if status is not None and status >= 400:
            return status in _TRANSIENT_STATUS
    return False


def is_refusal(error: BaseException) -> bool:
    """Whether the store, or its client, does not accept the credentials, or has found none."""
    return status_of(error) in (401, 403) or any(
        isinstance(cause, PermissionError)
        or not _REFUSAL_NAMES.isdisjoint(kind.__name__ for kind in type(cause).__mro__)
        for cause in causes(error)
    )


def header_of(error: BaseException, name: str) -> str:
    """A header of the answer behind an error, its name in lower case; empty if there is none."""
    for cause in causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # botocore
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
        else:  # azure; ours
            headers = getattr(cause if response is None else response, "headers", None)
        if isinstance(headers, Mapping):
            for key, value in headers.items():
                if str(key).lower() == name:
                    return str(value)
    return ""


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


async def read_fully(
    transport: Transport, start: int, stop: int, pinned: ObjectFacts | None = None
) -> Part:
    """Read a range, going on from where it broke for as long as that may help.

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
    for _ in range(MOST_ATTEMPTS + (stop - start) // _LEAST_PROGRESS):
        wish = 0.0
        last = futile + 1 >= ATTEMPTS
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
            asked_for = header_of(failed, "retry-after")
            wish = min(float(asked_for), LONGEST_WISH) if asked_for.isdecimal() else 0.0
        futile = 0 if pieces.size > most else futile + 1
        most = max(most, pieces.size)
        await asyncio.sleep(max(wish, _pause(futile)))
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


def _pause(futile: int) -> float:
    """Seconds to wait: doubling with every futile attempt, with jitter so that clients spread."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** max(0, futile - 1))
    return longest * random.uniform(0.5, 1.0)
