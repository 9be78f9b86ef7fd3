"""What servers may answer to a request for a range, and what is made of it: exact pixels or an error."""

from __future__ import annotations

import gzip
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest
import xarray as xr

from xarray_nd2 import ND2ChangedError, ND2Error, ND2SourceError
from xarray_nd2.testing import RangeServer, write_nd2
from xarray_nd2.testing.answers import Answer, Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPE = (12, 1, 64, 48)
CROP: dict[str, Any] = {"Y": slice(5, 25), "X": slice(3, 40)}


class AlteringServer(RangeServer):
    """A server whose answers are altered: ``alter(number, asked, answer)``."""

    alter: Callable[[int, Asked, Answer], Answer] | None = None
    answered = 0

    def answer(self, asked: Asked) -> Answer:
        self.answered += 1
        answer = super().answer(asked)
        return answer if self.alter is None else self.alter(self.answered, asked, answer)

    def whole(self, asked: Asked) -> Answer:
        return super().answer(replace(asked, range=None))


def with_header(answer: Answer, name: str, value: str | None) -> Answer:
    kept = [(key, old) for key, old in answer.headers if key != name]
    return replace(answer, headers=kept + ([] if value is None else [(name, value)]))


@pytest.fixture
def server() -> Iterator[AlteringServer]:
    with AlteringServer() as server:
        yield server


def put(server: AlteringServer, seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    import io

    frames = np.random.default_rng(seed).integers(0, 2**16, shape).astype("uint16")
    file = io.BytesIO()
    write_nd2(file, frames, "TCYX")
    server.put("run.nd2", file.getvalue())
    return frames


def read(server: AlteringServer, **options: Any) -> np.ndarray:
    ds = xr.open_dataset(server.url("run.nd2"), engine="nd2", **options)
    return np.concatenate([ds.image.isel(CROP).values.ravel(), ds.image.values.ravel()])


def expected(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([frames[:, :, CROP["Y"], CROP["X"]].ravel(), frames.ravel()])


def sometimes_weak(number: int, asked: Asked, answer: Answer) -> Answer:
    tag = dict(answer.headers).get("ETag", "")
    return with_header(answer, "ETag", f"W/{tag}") if number % 2 else answer


def sometimes_untagged(number: int, asked: Asked, answer: Answer) -> Answer:
    return with_header(answer, "ETag", None) if number % 2 else answer


def shouting(number: int, asked: Asked, answer: Answer) -> Answer:
    told = dict(answer.headers).get("Content-Range")
    return (
        answer
        if told is None
        else with_header(answer, "Content-Range", told.replace("bytes ", "Bytes  "))
    )


def maintenance(number: int, asked: Asked, answer: Answer) -> Answer:
    return Answer(200, [("Content-Type", "text/html")], b"<html></html>") if number == 4 else answer


@pytest.mark.parametrize(
    "alter", [sometimes_weak, sometimes_untagged, shouting, maintenance], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("max_gap", [None, 0])
def test_exact_pixels(alter: Any, max_gap: int | None, server: AlteringServer) -> None:
    frames = put(server, 1)
    server.alter = alter
    for _ in range(2):
        np.testing.assert_array_equal(read(server, max_gap=max_gap), expected(frames))


def test_ranges_that_are_rounded_up(server: AlteringServer) -> None:
    frames = put(server, 1)
    data = server._objects["run.nd2"].content

    def alter(number: int, asked: Asked, answer: Answer) -> Answer:
        if asked.range is None or answer.status != 206:
            return answer
        start, stop = asked.range
        stop = min(len(data), -(-stop // 65536) * 65536)
        told = f"bytes {start}-{stop - 1}/{len(data)}"
        return replace(with_header(answer, "Content-Range", told), body=data[start:stop])

    server.alter = alter
    np.testing.assert_array_equal(read(server, max_gap=0), expected(frames))


@pytest.mark.parametrize("number", [3, 4, 5])
def test_a_whole_object_among_ranges(number: int, server: AlteringServer) -> None:
    """A cache in between that has to fetch the object first gives all of it, once."""
    frames = put(server, 1, (3, 1, 1200, 1500))  # above what is read as a whole
    server.alter = lambda n, asked, answer: server.whole(asked) if n == number else answer
    ds = xr.open_dataset(server.url("run.nd2"), engine="nd2")
    for t in range(3):
        np.testing.assert_array_equal(ds.image.isel(T=t).values, frames[t])


@pytest.mark.parametrize("told", [None, "bytes 0-9/*", "pages 0-9/10"])
def test_ranges_that_are_not_placed(told: str | None, server: AlteringServer) -> None:
    put(server, 1)
    server.alter = lambda n, asked, answer: with_header(answer, "Content-Range", told)
    with pytest.raises(ND2SourceError, match="not where it is in a file of what size"):
        read(server)


@pytest.mark.parametrize("encoding", ["gzip", "br", "dcb", "identity, gzip", "aws-chunked"])
def test_encoded_whole(encoding: str, server: AlteringServer) -> None:
    put(server, 1)

    def alter(number: int, asked: Asked, answer: Answer) -> Answer:
        whole = server.whole(asked)
        content = gzip.compress(bytes(whole.body[:]))
        return replace(with_header(whole, "Content-Encoding", encoding), body=content)

    server.alter = alter
    with pytest.raises(ND2SourceError, match=f"the server sends {encoding} instead of bytes"):
        read(server)


@pytest.mark.parametrize("encoding", ["gzip", "X-Own", "identity,br", "aws-chunked"])
def test_encoded_ranges(encoding: str, server: AlteringServer) -> None:
    put(server, 1)
    server.alter = lambda n, asked, answer: with_header(answer, "Content-Encoding", encoding)
    with pytest.raises(ND2SourceError, match=f"the server sends {encoding} instead of bytes"):
        read(server)


@pytest.mark.parametrize("encoding", ["identity", "Identity, identity", ""])
def test_encodings_that_are_none(encoding: str, server: AlteringServer) -> None:
    frames = put(server, 1)
    server.alter = lambda n, asked, answer: with_header(answer, "Content-Encoding", encoding)
    np.testing.assert_array_equal(read(server), expected(frames))


def test_ranges_with_status_200(server: AlteringServer) -> None:
    frames = put(server, 1)
    server.alter = lambda n, asked, answer: replace(answer, status=200)
    np.testing.assert_array_equal(read(server), expected(frames))


def test_a_body_shorter_than_it_says_is_not_continued(server: AlteringServer) -> None:
    """It may be the end of the range that is there, and not its beginning."""
    frames = put(server, 1)

    seen: set[Any] = set()

    def alter(number: int, asked: Asked, answer: Answer) -> Answer:
        if asked.range in seen:
            return answer
        seen.add(asked.range)
        return replace(answer, body=answer.body[len(answer.body) // 3 :])

    server.alter = alter
    np.testing.assert_array_equal(read(server), expected(frames))
    server.alter = lambda n, asked, answer: replace(answer, body=answer.body[1:])
    with pytest.raises(ND2SourceError, match=r"a body said to be \d+ bytes has \d+"):
        read(server, patience_seconds=0.3)


def longer_than_said(number: int, asked: Asked, answer: Answer) -> Answer:
    start = (asked.range or (0, 1))[0]
    told = f"bytes {start}-{start}/{dict(answer.headers)['Content-Range'].rpartition('/')[2]}"
    return replace(with_header(answer, "Content-Range", told), body=b"\xee" * len(answer.body))


def longer_and_chunked(number: int, asked: Asked, answer: Answer) -> Answer:
    answer = longer_than_said(number, asked, answer)
    return with_header(answer, "Transfer-Encoding", "chunked")


def encoded_and_said_twice(number: int, asked: Asked, answer: Answer) -> Answer:
    headers = [("Content-Encoding", "gzip"), ("content-encoding", "identity")]
    body = gzip.compress(bytes(answer.body[:]))
    return replace(answer, headers=[*answer.headers, *headers], body=body)


def placed_twice(number: int, asked: Asked, answer: Answer) -> Answer:
    told = dict(answer.headers)["Content-Range"]
    return replace(
        answer,
        headers=[("Content-Range", "bytes 0-9/10"), *answer.headers, ("Content-Range", told)],
    )


@pytest.mark.parametrize(
    "alter",
    [longer_than_said, longer_and_chunked, encoded_and_said_twice, placed_twice],
    ids=lambda f: f.__name__,
)
def test_contradictions(alter: Any, server: AlteringServer) -> None:
    put(server, 1)
    ds = xr.open_dataset(
        server.url("run.nd2"), engine="nd2", max_gap=0, patience_seconds=0.3, cache=False
    )
    server.alter = alter
    with pytest.raises(ND2SourceError, match="run.nd2"):
        ds.image.isel(CROP).load()
    with pytest.raises(ND2SourceError, match="run.nd2"):
        read(server, patience_seconds=0.3)


def odd_answer(rng: np.random.Generator, answer: Answer) -> Answer:
    """One answer of the many that some server gives: honest, contradictory, or of another place."""
    told = dict(answer.headers).get("Content-Range", "")
    match rng.integers(0, 11):
        case 0 | 1 | 2:
            encoding = rng.choice(["gzip", "x-gzip", "deflate", "br", "zstd", "X-Own"])
            coded = gzip.compress(bytes(answer.body[:])) if rng.random() < 0.5 else answer.body
            return replace(with_header(answer, "Content-Encoding", str(encoding)), body=coded)
        case 3:
            return replace(answer, body=answer.body[: int(rng.integers(0, len(answer.body)))])
        case 4:
            return replace(answer, body=answer.body[int(rng.integers(0, len(answer.body))) :])
        case 5:
            return replace(answer, status=200)
        case 6:
            return replace(with_header(answer, "Content-Range", None), status=200)
        case 7:
            moved = told.replace(" ", f" {rng.integers(1, 9)}", 1)
            return with_header(answer, "Content-Range", moved)
        case 8:
            return with_header(answer, "Transfer-Encoding", "chunked")
        case 9:
            return replace(answer, body=bytes(answer.body[:]) + b"more of the object")
        case _:
            return with_header(answer, "Content-Range", told.partition("-")[0] + "-")


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.7, 1])
@pytest.mark.parametrize("seed", range(6))
def test_odd_answers_at_any_rate(rate: float, seed: int, server: AlteringServer) -> None:
    """Exact pixels or an error, never others."""
    frames = put(server, 1, (3, 1, 700, 600) if seed % 2 else SHAPE)
    rng = np.random.default_rng(seed)

    def alter(number: int, asked: Asked, answer: Answer) -> Answer:
        ranged = answer.status == 206 and rng.random() < rate
        return odd_answer(rng, answer) if ranged else answer

    server.alter = alter
    try:
        values = read(server, max_gap=[None, 0, 500][seed % 3], patience_seconds=0.6)
    except ND2Error as error:
        assert server.url("run.nd2") in str(error)  # noqa: PT017
    else:
        np.testing.assert_array_equal(values, expected(frames))


@pytest.mark.parametrize("rescue", [False, True])
def test_a_size_beyond_all_bounds(rescue: bool, server: AlteringServer) -> None:
    put(server, 1)

    def alter(number: int, asked: Asked, answer: Answer) -> Answer:
        told = dict(answer.headers)["Content-Range"].partition("/")[0]
        return with_header(answer, "Content-Range", f"{told}/{10**25}")

    server.alter = alter
    with pytest.raises(ND2SourceError, match="impossible size"):
        read(server, rescue=rescue)


def test_no_byte_0_of_a_file_that_is_not_empty(server: AlteringServer) -> None:
    put(server, 1)
    server.alter = lambda n, asked, answer: Answer(416, [("Content-Range", "bytes */5000")])
    with pytest.raises(ND2SourceError, match="HTTP 416"):
        read(server)


def test_versions_are_not_mixed(server: AlteringServer) -> None:
    """A part of another version comes first, as from a copy that lags behind."""
    put(server, 2)
    other = server._objects["run.nd2"]
    frames = put(server, 1)
    ours = server._objects["run.nd2"]

    def alter(number: int, asked: Asked, answer: Answer) -> Answer:
        if number != 3 or asked.range is None:
            return answer
        start, stop = asked.range
        half = (start + stop) // 2
        told = f"bytes {start}-{half - 1}/{len(ours.content)}"
        answer = with_header(with_header(answer, "ETag", other.etag), "Content-Range", told)
        return replace(answer, body=other.content[start:half])

    server.alter = alter
    ds = xr.open_dataset(server.url("run.nd2"), engine="nd2")
    np.testing.assert_array_equal(ds.image.values, frames)


def _values(pickled: bytes) -> np.ndarray:
    values: np.ndarray = pickle.loads(pickled).image.values
    return values


@pytest.mark.parametrize("tagged", [True, False])
def test_replaced_on_a_server_without_ranges(tagged: bool, server: AlteringServer) -> None:
    """A worker that keeps the whole of a small file does not give it for another one."""

    def alter(number: int, asked: Asked, answer: Answer) -> Answer:
        answer = server.whole(asked)
        if tagged:
            return answer
        return with_header(with_header(answer, "ETag", None), "Last-Modified", None)

    server.alter = alter
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for seed in (1, 2, 3):
            frames = put(server, seed)
            ds = xr.open_dataset(server.url("run.nd2"), engine="nd2")
            values = pool.submit(_values, pickle.dumps(ds)).result(timeout=60)
            np.testing.assert_array_equal(values, frames)


@pytest.mark.parametrize("version", ["v1", '"v1"', 'W/"v1"'])
@pytest.mark.parametrize("tag", ['"v1"', 'W/"v1"'])
def test_version_that_is_asked_for(version: str, tag: str, server: AlteringServer) -> None:
    put(server, 1)
    server.alter = lambda n, asked, answer: with_header(answer, "ETag", tag)
    xr.open_dataset(server.url("run.nd2"), engine="nd2", version=version)
    with pytest.raises(ND2ChangedError, match="version v2 was asked for"):
        xr.open_dataset(server.url("run.nd2"), engine="nd2", version="v2")


async def two_connections(**options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit_per_host=2), **options)


def test_waiting_for_a_connection_of_the_client(server: AlteringServer) -> None:
    """Where it makes few at once, the others have not begun to lose patience."""
    frames = put(server, 1)
    options = {"get_client": two_connections, "skip_instance_cache": True}
    ds = xr.open_dataset(
        server.url("run.nd2"),
        engine="nd2",
        storage_options=options,
        max_gap=0,
        patience_seconds=1.5,
    )
    server.latency = 0.2
    crop = {"T": 0, "X": slice(3, 9)}  # 64 ranges, 6.4 s
    np.testing.assert_array_equal(ds.image.isel(crop).values, frames[0, ..., 3:9])
