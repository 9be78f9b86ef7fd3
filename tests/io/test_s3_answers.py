"""What stores with the interface of S3 may answer, and what is made of it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from xarray_nd2 import ND2SourceError
from xarray_nd2.testing import S3Server, write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xarray_nd2.testing.answers import Answer, Asked

FRAMES = np.random.default_rng(4).integers(0, 2**16, (5, 1, 300, 400)).astype("uint16")


class AlteringS3Server(S3Server):
    """A store whose answers to requests for ranges are altered: ``alter(number, answer)``."""

    alter: Callable[[int, Answer], Answer] | None = None
    answered = 0

    def answer(self, asked: Asked) -> Answer:
        answer = super().answer(asked)
        if self.alter is None or asked.range is None:
            return answer
        self.answered += 1
        return self.alter(self.answered, answer)


def with_header(answer: Answer, name: str, value: str | None) -> Answer:
    kept = [(key, old) for key, old in answer.headers if key.lower() != name.lower()]
    return replace(answer, headers=kept + ([] if value is None else [(name, value)]))


@pytest.fixture(scope="module")
def store() -> Iterator[AlteringS3Server]:
    file = io.BytesIO()
    write_nd2(file, FRAMES, "TCYX")
    with AlteringS3Server() as server:
        server.create_bucket("altered")
        server.put("altered", "run.nd2", file.getvalue())
        yield server


@pytest.fixture(autouse=True)
def _unaltered(store: AlteringS3Server) -> Iterator[None]:
    yield
    store.alter = None


def read(store: AlteringS3Server, **options: Any) -> np.ndarray:
    options["storage_options"] = store.storage_options
    ds = xr.open_dataset("s3://altered/run.nd2", engine="nd2", max_gap=0, **options)
    values: np.ndarray = ds.image.isel(Y=slice(10, 200), X=slice(20, 300)).values
    return values


EXPECTED = FRAMES[:, :, 10:200, 20:300]


@pytest.mark.parametrize("encoding", ["aws-chunked", "identity", "aws-chunked,identity", ""])
def test_encodings_that_are_none(encoding: str, store: AlteringS3Server) -> None:
    store.alter = lambda _, answer: with_header(answer, "Content-Encoding", encoding)
    np.testing.assert_array_equal(read(store), EXPECTED)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "aws-chunked,gzip", "x-own"])
def test_encodings(encoding: str, store: AlteringS3Server) -> None:
    store.alter = lambda _, answer: with_header(answer, "Content-Encoding", encoding)
    with pytest.raises(ND2SourceError, match=f"the server sends {encoding} instead of bytes"):
        read(store, patience_seconds=0.5)


def framed(number: int, answer: Answer) -> Answer:
    """As it was uploaded, in chunks with signatures of their own."""
    data = bytes(answer.body[:])
    body = b"%x;chunk-signature=%b\r\n%b\r\n0\r\n\r\n" % (len(data), b"0" * 64, data)
    return replace(with_header(answer, "Content-Encoding", "aws-chunked"), body=body)


def test_chunks_that_are_really_there(store: AlteringS3Server) -> None:
    store.alter = framed
    with pytest.raises(ND2SourceError, match="a body said to be"):
        read(store, patience_seconds=0.5)


def test_without_a_length(store: AlteringS3Server) -> None:
    store.alter = lambda _, answer: with_header(answer, "Transfer-Encoding", "chunked")
    np.testing.assert_array_equal(read(store), EXPECTED)


def test_ranges_with_status_200(store: AlteringS3Server) -> None:
    store.alter = lambda _, answer: replace(answer, status=200)
    np.testing.assert_array_equal(read(store), EXPECTED)


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
def test_bodies_shorter_than_they_say(headers: dict[str, str], store: AlteringS3Server) -> None:
    """Whatever part it is that came: it is asked for again."""

    seen: set[str] = set()

    def alter(number: int, answer: Answer) -> Answer:
        for name, value in headers.items():
            answer = with_header(answer, name, value)
        asked = dict(answer.headers)["Content-Range"]
        if asked in seen:
            return answer
        seen.add(asked)
        return replace(answer, body=answer.body[len(answer.body) // 3 :])

    store.alter = alter
    np.testing.assert_array_equal(read(store), EXPECTED)
    store.alter = lambda _, answer: replace(answer, body=answer.body[1:])
    with pytest.raises(ND2SourceError, match=r"a body said to be \d+ bytes has \d+"):
        read(store, patience_seconds=0.5)


def test_parts_that_are_not_placed(store: AlteringS3Server) -> None:
    store.alter = lambda _, answer: with_header(answer, "Content-Range", None)
    with pytest.raises(ND2SourceError, match="not where it is in a file of what size"):
        read(store, patience_seconds=0.5)
