"""Why a read failed, and the one place where that becomes an error of this package.

Every client library raises exceptions of its own, most of which do not pickle and some of which
hold requests with all of their headers. They are told apart here by HTTP status or by kind, and an
ND2 error is made of each, which has the text of what caused it and not the exception itself.
"""

from __future__ import annotations

import pickle
import socket
import ssl
import sys
from asyncio import CancelledError
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from xarray_nd2.errors import (
    ND2ChangedError,
    ND2Error,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
)
from xarray_nd2.io.secrets import public_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xarray_nd2.io.answers import ObjectFacts, Part

_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})
_TRANSIENT_BUILTINS: Final = (TimeoutError, ConnectionError)
# By the names of exceptions, since none of these clients is always installed.
_TRANSIENT_CLIENT_ERRORS: Final = frozenset(
    {
        *("ClientConnectionError", "ClientPayloadError"),  # aiohttp
        *("HTTPClientError", "ResponseStreamingError", "IncompleteReadError"),  # botocore
        *("ServiceRequestError", "ServiceResponseError"),  # azure
        "ProxyError",  # requests, which gcsfs uses for its errors
        "SMBConnectionClosed",
    }
)
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST"})  # reasons of OpenSSL
# Errors of the resolver by which it tells that there is no such host. On other systems than Linux
# one of them may be missing.
_NO_SUCH_HOST: Final = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)
)
_NO_SUCH_HOST_ARES: Final = frozenset({1, 4})  # of c-ares: no data, not found
# Credentials that are wrong, or nowhere to be found.
_REFUSAL_CLIENT_ERRORS: Final = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),  # botocore
        *("ProfileNotFound", "TokenRetrievalError", "SSOError"),
        "ClientAuthenticationError",  # azure
        "GoogleAuthError",
        "AuthenticationException",  # paramiko
        *("SMBAuthenticationError", "LogonFailure", "AccessDenied"),  # smbprotocol
    }
)
# Their exceptions hold no more than their text says.
_HARMLESS_PACKAGES: Final = frozenset({"builtins", "isal", "numpy", "zlib"})


class BrokenOffError(ConnectionError):
    """A body broke off; `received` is the part of it that did arrive."""

    def __init__(self, received: Part, why: str = "the connection broke") -> None:
        super().__init__(f"{why}, after {len(received.data)} bytes")
        self.received = received


class GivenUpError(OSError):
    """Trying again did not help; what the last attempt failed by is the cause."""

    def __init__(self, attempts: int, seconds: float) -> None:
        super().__init__(f"given up after {attempts} attempts and {seconds:.2g} s without progress")


class StatusError(OSError):
    """The server answered with an HTTP status that is an error.

    `reason` is what the server says about it.
    """

    def __init__(
        self, status: int, reason: object, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(f"HTTP {status} {reason}")
        self.status = status
        self.headers = headers


class RangeIgnoredError(OSError):
    """The store answers with something else than the range that was asked for.

    `passing` if it answered with ranges before, so that this may be one answer that went wrong.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class ShareError(OSError):
    """The system could not read from a mounted share; made of an error number and its text."""


class ForeignError(Exception):
    """The text of another package's exception and of its causes, in place of them."""


def causes(error: BaseException, handled: BaseException | None = None) -> Iterator[BaseException]:
    """Yield the error, what caused it, what caused that, and so on.

    Python takes an exception that the caller is handling for the context of a new one. It caused
    nothing, so it is given as `handled`, where the causes end.
    """
    seen = {id(handled)}
    at: BaseException | None = error
    while at is not None and id(at) not in seen and not isinstance(at, CancelledError):
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def status_of(error: BaseException, handled: BaseException | None = None) -> int | None:
    """HTTP status behind an error of some client library, or None."""
    return next((status for status in map(_own_status, causes(error, handled)) if status), None)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later; of all causes the nearest that tells decides."""
    if any(map(_is_lasting, causes(error))):
        return False
    for cause in causes(error):
        if isinstance(cause, RangeIgnoredError):
            return cause.passing
        if isinstance(cause, PermissionError):
            return False
        if isinstance(cause, (*_TRANSIENT_BUILTINS, ShareError)) or (
            _is_named(cause, _TRANSIENT_CLIENT_ERRORS)
        ):
            return True
        status = _own_status(cause)
        if status is not None and status >= 400:
            return status in _TRANSIENT_STATUSES
    return False


def is_absence(error: BaseException, handled: BaseException | None = None) -> bool:
    """Whether there is no such file; some filesystems say so of all that goes wrong."""
    status = status_of(error, handled)
    if status is not None:
        return status in (404, 410)
    return isinstance(error, FileNotFoundError) and not is_transient(error)


def is_unlikely_to_pass(error: BaseException) -> bool:
    """Whether it tells more of what is there than of how it is just now.

    Nobody listens at the address, the store that gave ranges gives something else, or the system
    gave up a mounted share, after a patience of its own.
    """
    unlikely = (ConnectionRefusedError, RangeIgnoredError, ShareError)
    return any(isinstance(cause, unlikely) for cause in causes(error))


def is_refusal(error: BaseException, handled: BaseException | None = None) -> bool:
    """Whether the store, or its client, does not accept the credentials, or has found none."""
    return status_of(error, handled) in (401, 403) or any(
        isinstance(cause, PermissionError) or _is_named(cause, _REFUSAL_CLIENT_ERRORS)
        for cause in causes(error, handled)
    )


def is_of_empty_object(error: BaseException) -> bool:
    """Whether a store has no byte 0 to give, and does not say that there are other bytes."""
    return status_of(error) == 416 and (
        header_of(error, "content-range").rpartition("/")[2] in ("", "0")
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


def _is_lasting(error: BaseException) -> bool:
    """Whether the server is not the one of that name, or there is none."""
    if isinstance(error, ssl.SSLError):
        # A certificate that is not trusted; or no TLS is spoken there.
        reason = getattr(error, "reason", None)
        return isinstance(error, ssl.SSLCertVerificationError) or reason in _NO_TLS
    if isinstance(error, socket.gaierror):
        return error.errno in _NO_SUCH_HOST
    is_of_ares = _is_named(error, frozenset({"DNSError"}))  # of aiodns
    return is_of_ares and not _NO_SUCH_HOST_ARES.isdisjoint(error.args[:1])


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


def _is_named(error: BaseException, names: frozenset[str]) -> bool:
    return not names.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def check_unchanged(opened: ObjectFacts | None, answered: ObjectFacts | None) -> None:
    """Check that an answer is of the object that was opened, as far as both tell.

    Raises
    ------
    ND2ChangedError
        It is of another one.
    """
    if opened is not None and answered is not None and not opened.agrees(answered):
        raise ND2ChangedError(
            f"the object has changed since it was opened, from {opened.size} bytes tagged "
            f"{opened.version} to {answered.size} tagged {answered.version}: open it again"
        )


class named_errors:  # noqa: N801  (read as a word: `with named_errors(url):`)
    """Give ND2 errors raised inside the name of the file, where they have none.

    Causes of theirs that may tell a secret, or do not pickle, are replaced by a `ForeignError`.
    All other exceptions pass as they are.

    Parameters
    ----------
    url : str
        The file, with credentials removed.
    hide : callable
        Removes secrets from a text.
    """

    __slots__ = ("_handled", "_hide", "_url")

    def __init__(self, url: str, hide: Callable[[str], str] = public_text) -> None:
        self._url = url
        self._hide = hide

    def __enter__(self) -> None:
        self._handled = sys.exception()  # of the caller; it causes nothing that is raised inside

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._handled is error:  # raised again in its own handler
            self._handled = None
        if not isinstance(error, ND2Error):
            return
        error.name_file(self._url)
        if error.__cause__ is not None:
            error.__cause__ = self._presentable(error.__cause__)
            error.__context__ = None
        elif error.__context__ is not None and error.__context__ is not self._handled:
            error.__context__ = self._presentable(error.__context__)

    def _presentable(self, error: BaseException) -> BaseException:
        """An exception, if it and all behind it may be shown and sent on; otherwise their text."""
        behind = {id(self._handled): error, id(error): error}  # the former is not looked at
        waiting = [error]
        while waiting:
            part = waiting.pop()
            for one in (part.__cause__, part.__context__):
                if one is not None and id(one) not in behind:
                    behind[id(one)] = one
                    waiting.append(one)
        if all(_is_harmless(part, self._hide) for part in behind.values()):
            return error
        texts = (self._hide(_described(part)) for part in causes(error, self._handled))
        return ForeignError(", from ".join(texts))


class nd2_errors(named_errors):  # noqa: N801
    """Turn whatever goes wrong inside into an ND2 error that names the file.

    ND2 errors pass, named as by `named_errors`. So do cancellation and interrupts.

    Parameters
    ----------
    url, hide
        As of `named_errors`.
    where : str or (int, int)
        What is being done, for the message; or the range that is being read.
    opened : bool
        Whether the size of the object is known, so that no range can lie beyond its end.

    Raises
    ------
    ND2NotFoundError, ND2PermissionError, ND2ChangedError
        There is no such file, access was refused, or the object is smaller than it was.
    ND2SourceError
        Anything else went wrong.
    """

    __slots__ = ("_opened", "_where")

    def __init__(
        self,
        url: str,
        where: str | tuple[int, int],
        hide: Callable[[str], str] = public_text,
        *,
        opened: bool = False,
    ) -> None:
        super().__init__(url, hide)
        self._where, self._opened = where, opened

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        super().__exit__(kind, error, traceback)
        if isinstance(error, ND2Error) or not isinstance(error, Exception):
            return
        made = self._made_of(error)
        try:
            raise made from self._presentable(error)
        finally:
            made.__context__ = None  # which `raise` has set to the exception that is replaced
            del made, error, traceback  # or they would keep this frame, and it them

    def _made_of(self, error: Exception) -> ND2SourceError:
        given_up = ""
        if isinstance(error, GivenUpError) and isinstance(error.__cause__, Exception):
            given_up, error = f", {error}", error.__cause__
        if isinstance(error, FileNotFoundError) and not is_absence(error, self._handled):
            # A filesystem says so of whatever went wrong behind it.
            behind = error.__cause__ or error.__context__
            error = behind if isinstance(behind, Exception) else error
        text = self._hide(str(error)) or type(error).__name__
        status = status_of(error, self._handled)
        if is_absence(error, self._handled):
            return ND2NotFoundError(f"there is no such file: {text}", self._url)
        if is_refusal(error, self._handled):
            return ND2PermissionError(f"access was refused: {text}", self._url)
        if status == 416 and self._opened:
            return ND2ChangedError("the object is smaller than when it was opened", self._url)
        if isinstance(error, RangeIgnoredError):
            return ND2SourceError(
                f"{text}: no part of the file can be read from it{given_up}", self._url
            )
        where = self._where if isinstance(self._where, str) else "bytes {}-{}".format(*self._where)
        if isinstance(error, EOFError):
            return ND2SourceError(f"short read, {where}: {text}", self._url)
        return ND2SourceError(f"{where}: {type(error).__name__}: {text}{given_up}", self._url)


def _is_harmless(error: BaseException, hide: Callable[[str], str]) -> bool:
    package = type(error).__module__.partition(".")[0]
    if package not in _HARMLESS_PACKAGES and not isinstance(error, (ND2Error, ForeignError)):
        return False
    shown = f"{error} {error!r}"
    if hide(shown) != shown:
        return False
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  (made in this line)
    except Exception:  # noqa: BLE001  (whatever is raised here)
        return False
    return True


def _described(error: BaseException) -> str:
    kind = type(error)
    package = kind.__module__.partition(".")[0]
    name = kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"
    return f"{name}: {error}"
