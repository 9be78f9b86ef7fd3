"""Errors: made in one place, copied and pickled as they are, and silent about secrets."""

from __future__ import annotations

import asyncio
import copy
import copyreg
import pickle
import sys
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp
import botocore.exceptions
import pytest
import tblib.pickling_support  # type: ignore[import-untyped]
from yarl import URL

from xarray_nd2 import (
    ND2ChangedError,
    ND2Error,
    ND2FormatError,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
)
from xarray_nd2.io.answers import Part
from xarray_nd2.io.failures import (
    BrokenOffError,
    ForeignError,
    StatusError,
    is_transient,
    named_errors,
    nd2_errors,
)
from xarray_nd2.io.source import ByteSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xarray_nd2.testing import S3Server

SECRET = "hush-hush-9f3c"
URL_OF_FILE = "s3://bucket/run.nd2"


def of_aiohttp(status: int = 400) -> aiohttp.ClientResponseError:
    headers: Any = {"Authorization": f"Bearer {SECRET}"}
    url = URL(f"http://host/run.nd2?sig={SECRET}")
    request = aiohttp.RequestInfo(url, "GET", headers, url)
    return aiohttp.ClientResponseError(request, (), status=status, message="Bad status line")


def of_botocore(status: int = 400) -> botocore.exceptions.ClientError:
    answer: Any = {
        "Error": {"Code": "Odd", "Message": f"not with {SECRET}"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return botocore.exceptions.ClientError(answer, "GetObject")


def hide(text: str) -> str:
    return text.replace(SECRET, "***")


def failed(error: BaseException, where: Any = "opening", **options: Any) -> ND2Error:
    with pytest.raises(ND2Error) as caught, nd2_errors(URL_OF_FILE, where, hide, **options):
        raise error
    return caught.value


@pytest.fixture(params=["plain", "tblib"])
def pickling(request: pytest.FixtureRequest) -> Iterator[str]:
    """How exceptions are pickled: as Python does it, and as distributed does."""
    before = copyreg.dispatch_table.copy()
    if request.param == "tblib":
        tblib.pickling_support.install()
    yield request.param
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)


def state(error: BaseException) -> Any:
    return (
        *(str(error), repr(error), error.args, dict(error.__dict__)),
        *(error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__),
    )


@pytest.mark.parametrize("make", [of_aiohttp, of_botocore])
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_copies(again: Callable[..., Any], make: Callable[[], Exception], pickling: str) -> None:
    error = failed(make())
    error.add_note("in the third attempt")
    before = state(error)
    copied = again(error)
    assert state(error) == before
    assert (type(copied), str(copied), copied.url) == (type(error), str(error), URL_OF_FILE)
    assert copied.__notes__ == ["in the third attempt"]
    if pickling == "tblib":
        assert str(copied.__cause__) == str(error.__cause__)
        assert copied.__context__ is None


def raised(foreign: Exception, where: str) -> None:
    if where == "reading":
        with nd2_errors(URL_OF_FILE, "opening", hide):
            raise foreign
    with named_errors(URL_OF_FILE, hide):
        try:
            raise foreign  # noqa: TRY301
        except Exception as error:
            if where == "cause":
                raise ND2SourceError("opening") from error
            raise ND2SourceError("opening")  # noqa: B904  (as a slip would leave it)


@pytest.mark.parametrize("make", [of_aiohttp, of_botocore])
@pytest.mark.parametrize("where", ["reading", "cause", "context"])
def test_a_foreign_exception_is_replaced_by_its_text(where: str, make: Any) -> None:
    foreign = make()
    foreign.__cause__ = ConnectionResetError(104, f"with {SECRET}")
    before = state(foreign)
    with pytest.raises(ND2SourceError) as caught:
        raised(foreign, where)
    error = caught.value
    text = error.__cause__ or error.__context__
    assert type(text) is ForeignError
    assert str(text).startswith(
        f"{type(foreign).__module__.split('.')[0]}.{type(foreign).__name__}:"
    )
    assert ", from ConnectionResetError: [Errno 104] with ***" in str(text)
    assert SECRET not in f"{text!r} {error!r} {error}"
    assert foreign not in (error.__context__, text.__cause__, text.__context__)
    foreign.__traceback__ = None
    assert state(foreign) == before


def test_a_harmless_cause_stays() -> None:
    cause = zlib.error("Error -3 while decompressing data")
    with pytest.raises(ND2FormatError) as caught, named_errors(URL_OF_FILE):
        raise ND2FormatError("frame 3 does not inflate") from cause
    assert (caught.value.__cause__, caught.value.url) == (cause, URL_OF_FILE)
    reset = ConnectionResetError(104, "Connection reset by peer")
    assert failed(reset).__cause__ is reset
    assert type(failed(ConnectionResetError(f"of {SECRET}")).__cause__) is ForeignError
    assert type(failed(StatusError(500, "Oops", {"Cookie": SECRET})).__cause__) is ForeignError


def test_what_was_handled_outside_is_not_the_cause() -> None:
    try:
        raise of_aiohttp(403)
    except aiohttp.ClientError:
        error = failed(KeyError("size"))
        with pytest.raises(ND2FormatError) as caught, named_errors(URL_OF_FILE):
            raise ND2FormatError("no signature")  # noqa: B904
        handled = sys.exception()
        refused = failed(OSError("disk on fire"))
    assert str(error.__cause__) == "'size'"
    assert error.__context__ is None
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is handled  # it is the user's
    assert type(refused) is ND2SourceError


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3)])
def test_cancellation_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, nd2_errors(URL_OF_FILE, "opening"):
        raise error
    assert caught.value is error


def test_an_error_of_ours_passes() -> None:
    ours = ND2ChangedError("it is another one")
    assert failed(ours) is ours
    assert ours.url == URL_OF_FILE
    named = ND2FormatError("cut short", "s3://bucket/other.nd2")
    assert failed(named) is named
    assert named.url == "s3://bucket/other.nd2"


@pytest.mark.parametrize("make", [of_aiohttp, of_botocore, lambda status: StatusError(status, "")])
def test_which_error(make: Callable[[int], Exception]) -> None:
    for status, kind in (
        (404, ND2NotFoundError),
        (410, ND2NotFoundError),
        (403, ND2PermissionError),
    ):
        assert type(failed(make(status))) is kind
        assert not is_transient(make(status))
    assert type(failed(make(416), opened=True)) is ND2ChangedError
    assert type(failed(make(416))) is ND2SourceError
    assert is_transient(make(503))
    assert "bytes 10-20: " in str(failed(make(503), (10, 20)))
    assert is_transient(BrokenOffError(Part(0, b"abc")))
    assert str(failed(EOFError("3 bytes came"), (0, 9))).endswith(
        "short read, bytes 0-9: 3 bytes came"
    )


def test_secrets_of_options_are_not_in_causes() -> None:
    options = {"headers": {"Authorization": SECRET}}
    with pytest.raises(ND2SourceError) as caught:
        ByteSource.of(f"nosuch-{SECRET}://host/run.nd2", options).begin(1, 1)
    assert SECRET not in str(caught.value.__cause__)


def test_errors_of_a_store_survive_pickling(s3: S3Server, pickling: str) -> None:
    # An option that makes the client read, whose errors do not pickle.
    options = s3.storage_options | {"config_kwargs": {"user_agent_extra": "test"}}
    with pytest.raises(ND2NotFoundError) as caught:
        ByteSource.of("s3://bucket/nothing.nd2", options).begin(1, 1)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value)
    assert "FileNotFoundError: " in str(caught.value.__cause__)


def test_an_error_that_is_raised_again_where_it_is_handled() -> None:
    def raise_again() -> None:
        try:
            raise of_aiohttp(403)
        except aiohttp.ClientError:
            with nd2_errors(URL_OF_FILE, "opening"):
                raise

    with pytest.raises(ND2PermissionError) as caught:
        raise_again()
    assert "aiohttp.ClientResponseError" in str(caught.value.__cause__)


def test_a_copy_is_equal() -> None:
    with pytest.raises(ND2FormatError) as caught, named_errors(URL_OF_FILE):
        raise ND2FormatError("cut short")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert repr(copied) == repr(caught.value)
    assert copied.args == caught.value.args == (f"{URL_OF_FILE}: cut short",)
