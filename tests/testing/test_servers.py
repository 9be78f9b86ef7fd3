"""The loopback servers: they must count right, and be slow and faulty as they are told."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3  # type: ignore[import-untyped]
import botocore.exceptions
import fsspec
import pytest
import s3fs

from xarray_nd2.testing import Fault, RangeServer, Request, RequestLog, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Answered = tuple[int, dict[str, str], bytes]

OBJECT_DATA = os.urandom(300_000)  # more than one piece that is sent at a time
BUCKET_NAME = "of-the-server-tests"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    (tmp_path / "run.nd2").write_bytes(OBJECT_DATA)
    with RangeServer(tmp_path) as server:
        server.put("memory.nd2", OBJECT_DATA)
        yield server


@pytest.fixture(scope="module")
def shared_store() -> Iterator[S3Server]:
    with S3Server() as server:
        for _ in range(2):  # the second time, it is there
            server.create_bucket(BUCKET_NAME)
        yield server


@pytest.fixture
def store(shared_store: S3Server) -> Iterator[S3Server]:
    shared_store.put(BUCKET_NAME, "run.nd2", OBJECT_DATA)
    shared_store.log.clear()
    yield shared_store
    shared_store.latency, shared_store.bandwidth, shared_store.faults = 0.0, None, None


@pytest.fixture
def web() -> Any:
    return fsspec.filesystem("http", skip_instance_cache=True)


@pytest.fixture
def s3files(store: S3Server) -> Any:
    return s3fs.S3FileSystem(**store.storage_options, skip_instance_cache=True)


@pytest.fixture
def boto(store: S3Server) -> Iterator[Any]:
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    yield client
    client.close()


def ask(
    server: RangeServer | S3Server,
    path: str,
    byte_range: str | None = None,
    *,
    method: str = "GET",
    chunked: bool = False,
    body: bytes | Iterable[bytes] | None = None,
    timeout: float = 10,
    **headers: str,
) -> Answered:
    """Status, headers and body of one request, with nothing between the test and the server."""
    if byte_range is not None:
        headers["Range"] = f"bytes={byte_range}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, body, named, encode_chunked=chunked)
        response = connection.getresponse()
        try:
            return response.status, dict(response.headers), response.read()
        finally:
            response.close()


# The log


def entry(began: float, ended: float) -> Request:
    return Request("GET", "/run.nd2", 0, 10, 206, 10, began, ended)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], 0),
        ([(0, 1)], 1),
        ([(0, 1), (0, 1), (0.5, 2)], 1),
        ([(0, 1), (1.5, 2), (3, 4)], 3),
        ([(3, 4), (0, 1), (1.5, 2)], 3),  # logged in another order
        ([(0, 10), (1, 2), (3, 4)], 2),  # a long request beside a chain
        ([(0, 1), (0, 2), (1.5, 3), (2.5, 4)], 2),
    ],
)
def test_round_trips_of_a_log(spans: list[tuple[float, float]], expected: int) -> None:
    log = RequestLog()
    for span in spans:
        log.add(entry(*span))
    assert log.round_trips == expected
    assert log.requests == len(spans) == len(log.entries)
    assert repr(log) == f"<{len(spans)} requests, {10 * len(spans)} bytes, {expected} round trips>"
    log.clear()
    assert (log.requests, log.bytes, log.round_trips, log.entries) == (0, 0, 0, [])


def test_log_is_safe_for_threads() -> None:
    log = RequestLog()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.add(entry(n, n)), range(1000)))
        list(pool.map(lambda _: log.round_trips, range(20)))
    assert log.requests == 1000


# Files over HTTP


@pytest.mark.parametrize("name", ["run.nd2", "memory.nd2"])
@pytest.mark.parametrize(
    ("byte_range", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("10-19", 10, 20),
        ("299990-", 299_990, 300_000),
        ("-7", 299_993, 300_000),
        ("-999999", 0, 300_000),
        ("5-999999", 5, 300_000),
        ("0-299999", 0, 300_000),
    ],
)
def test_range(name: str, byte_range: str, start: int, stop: int, server: RangeServer) -> None:
    status, headers, body = ask(server, f"/{name}", byte_range)
    assert (status, body) == (206, OBJECT_DATA[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/300000"
    assert headers["Content-Length"] == str(stop - start)
    (logged,) = server.log.entries
    assert (logged.method, logged.path, logged.status) == ("GET", f"/{name}", 206)
    assert (logged.start, logged.stop, logged.nbytes) == (start, stop, stop - start)
    assert logged.began <= logged.ended <= time.monotonic()


@pytest.mark.parametrize("byte_range", [None, "0-1,5-9", "9-5", "-", "x-y"])
def test_whole_object(byte_range: str | None, server: RangeServer) -> None:
    """A range that is none, or not a single one, is passed over."""
    status, headers, body = ask(server, "/run.nd2", byte_range)
    assert (status, body) == (200, OBJECT_DATA)
    assert "Content-Range" not in headers
    (logged,) = server.log.entries
    assert (logged.start, logged.stop, logged.nbytes) == (None, None, 300_000)


@pytest.mark.parametrize("byte_range", ["300000-", "300000-300009", "999999-", "-0"])
def test_range_behind_the_end(byte_range: str, server: RangeServer) -> None:
    status, headers, body = ask(server, "/run.nd2", byte_range)
    assert (status, body) == (416, b"")
    assert headers["Content-Range"] == "bytes */300000"
    assert server.log.bytes == 0


def test_head(server: RangeServer) -> None:
    status, headers, body = ask(server, "/run.nd2", method="HEAD")
    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == "300000"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Last-Modified"].endswith(" GMT")
    assert ask(server, "/run.nd2", "0-9", method="HEAD")[1]["Content-Length"] == "10"
    assert [logged.method for logged in server.log.entries] == ["HEAD", "HEAD"]
    assert server.log.bytes == 0


@pytest.mark.parametrize("path", ["/no.nd2", "/", "/folder", "/../secret", "/a/%2e%2e/run.nd2"])
def test_not_found(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / "served" / "folder").mkdir(parents=True)
    with RangeServer(tmp_path / "served") as server:
        assert ask(server, path)[::2] == (404, b"")
        assert ask(server, path, "0-9")[0] == 404
        assert server.log.entries[1].start is None


def test_nothing_to_write_to(server: RangeServer) -> None:
    assert ask(server, "/run.nd2", method="PUT", body=b"0123")[0] == 405
    assert ask(server, "/run.nd2")[2] == OBJECT_DATA


def test_names_and_empty_objects(tmp_path: Path, web: Any) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "ä & 100%.nd2").write_bytes(b"here")
    (tmp_path / "empty").touch()
    with RangeServer(tmp_path) as server:
        server.put("b/ü?.nd2", b"there")
        assert web.cat_file(server.url("a folder/ä & 100%.nd2")) == b"here"
        assert web.cat_file(server.url("b/ü?.nd2")) == b"there"
        assert ask(server, "/empty")[::2] == (200, b"")
        assert ask(server, "/empty", "0-9")[0] == 416


def test_version_of_a_file(tmp_path: Path, server: RangeServer) -> None:
    tags = [ask(server, "/run.nd2", method="HEAD")[1]["ETag"] for _ in range(2)]
    assert tags[0] == tags[1]
    assert tags[0].startswith('"')
    changed = tmp_path / "run.nd2"
    os.utime(changed, ns=(1, 1))
    tags.append(ask(server, "/run.nd2")[1]["ETag"])
    changed.write_bytes(b"short")
    os.utime(changed, ns=(1, 1))
    tags.append(ask(server, "/run.nd2")[1]["ETag"])
    assert len(set(tags)) == 3


def test_version_of_an_object(server: RangeServer) -> None:
    tag = ask(server, "/memory.nd2")[1]["ETag"]
    server.put("memory.nd2", bytes(OBJECT_DATA))
    assert ask(server, "/memory.nd2")[1]["ETag"] == tag
    server.put("memory.nd2", OBJECT_DATA[::-1])
    assert ask(server, "/memory.nd2")[1]["ETag"] != tag


def test_if_match(server: RangeServer) -> None:
    tag = ask(server, "/run.nd2")[1]["ETag"]
    assert ask(server, "/run.nd2", "0-9", If_Match=tag)[::2] == (206, OBJECT_DATA[:10])
    assert ask(server, "/run.nd2", "0-9", If_Match="*")[0] == 206
    server.log.clear()
    assert ask(server, "/run.nd2", "0-9", If_Match='"other"')[::2] == (412, b"")
    (logged,) = server.log.entries
    assert (logged.start, logged.stop, logged.nbytes) == (0, 10, 0)


def test_connection_is_kept(server: RangeServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        ports = set()
        for path, expected in (
            ("/run.nd2", OBJECT_DATA),
            ("/no", b""),
            ("/memory.nd2", OBJECT_DATA),
        ):
            connection.request("GET", path)
            ports.add(connection.sock.getsockname())
            assert connection.getresponse().read() == expected
        assert len(ports) == 1


def test_requests_in_one_packet(server: RangeServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        line = b"GET /run.nd2 HTTP/1.1\r\nRange: bytes=0-3\r\n"
        client.sendall(line + b"\r\n" + line + b"Connection: close\r\n\r\n")
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.count(b"HTTP/1.1 206 Partial Content\r\n") == 2
    assert received.count(OBJECT_DATA[:4]) == 2


@pytest.mark.parametrize("line", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
def test_no_http(line: bytes, server: RangeServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(line)
        assert client.recv(100) == b""
    assert ask(server, "/run.nd2")[0] == 200


def test_fsspec(server: RangeServer, web: Any) -> None:
    url = server.url("run.nd2")
    assert web.cat_file(url, start=1000, end=2000) == OBJECT_DATA[1000:2000]
    assert web.cat_file(url, start=-100) == OBJECT_DATA[-100:]
    assert server.log.bytes == 1100
    assert web.info(url)["size"] == 300_000
    with web.open(url, block_size=50_000) as file:
        file.seek(250_000)
        assert file.read() == OBJECT_DATA[250_000:]
    with pytest.raises(FileNotFoundError):
        web.cat_file(server.url("no.nd2"))


def test_many_requests_at_once(server: RangeServer, web: Any) -> None:
    starts = [n * 100 for n in range(500)]
    stops = [start + 100 for start in starts]
    parts = web.cat_ranges([server.url("run.nd2")] * 500, starts, stops)
    assert b"".join(parts) == OBJECT_DATA[:50_000]
    assert (server.log.requests, server.log.bytes) == (500, 50_000)
    assert sorted(logged.start or 0 for logged in server.log.entries) == starts


# Delays


def test_round_trips(server: RangeServer, web: Any) -> None:
    url = server.url("run.nd2")
    server.latency = 0.02
    for start in range(4):
        web.cat_file(url, start=start, end=start + 10)
    assert server.log.round_trips == 4
    server.log.clear()
    server.latency = 0.5
    web.cat_ranges([url] * 32, list(range(32)), list(range(10, 42)))
    assert (server.log.requests, server.log.round_trips) == (32, 1)
    assert all(logged.ended - logged.began >= 0.5 for logged in server.log.entries)


def test_bandwidth_is_shared(server: RangeServer) -> None:
    server.bandwidth = 2e6
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        bodies = list(pool.map(lambda _: ask(server, "/run.nd2")[2], range(3)))
    took = time.monotonic() - began
    assert bodies == [OBJECT_DATA] * 3
    assert took > 0.4  # 900 kB
    server.bandwidth = None
    assert ask(server, "/run.nd2")[2] == OBJECT_DATA


def test_little_is_not_held_up_by_much(server: RangeServer) -> None:
    server.bandwidth = 6e5
    with ThreadPoolExecutor(1) as pool:
        much = pool.submit(ask, server, "/run.nd2")
        time.sleep(0.05)
        ask(server, "/run.nd2", "0-99")
        assert not much.done()
        much.result()
    assert [logged.nbytes for logged in server.log.entries] == [100, 300_000]


# Faults


@pytest.mark.parametrize("status", [403, 404, 416, 429, 500, 503])
def test_status(status: int, server: RangeServer) -> None:
    server.faults = lambda *_: Fault(status)
    assert ask(server, "/run.nd2", "0-9")[::2] == (status, b"")
    (logged,) = server.log.entries
    assert (logged.status, logged.start, logged.nbytes) == (status, 0, 0)


def test_reset(server: RangeServer) -> None:
    server.faults = lambda *_: Fault("reset")
    with pytest.raises(ConnectionResetError):
        ask(server, "/run.nd2", "0-9")
    (logged,) = server.log.entries
    assert (logged.status, logged.start, logged.stop, logged.nbytes) == (0, 0, 10, 0)


@pytest.mark.parametrize("size", [10, 300_000])
def test_short(size: int, server: RangeServer) -> None:
    server.faults = lambda *_: Fault("short")
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(server, "/run.nd2", f"0-{size - 1}")
    assert caught.value.partial == OBJECT_DATA[: size // 2]
    assert caught.value.expected == size - size // 2
    (logged,) = server.log.entries
    assert (logged.status, logged.stop, logged.nbytes) == (206, size, size // 2)


@pytest.mark.parametrize("name", ["run.nd2", "memory.nd2"])
def test_truncate(name: str, server: RangeServer) -> None:
    server.faults = lambda *_: Fault("truncate")
    status, headers, body = ask(server, f"/{name}", "100-199")
    assert (status, body) == (206, OBJECT_DATA[100:150])
    assert headers["Content-Range"] == "bytes 100-149/300000"
    (logged,) = server.log.entries
    assert (logged.start, logged.stop, logged.nbytes) == (100, 200, 50)


def test_ignore_range(server: RangeServer) -> None:
    server.faults = lambda *_: Fault("ignore_range")
    status, headers, body = ask(server, "/run.nd2", "100-199")
    assert (status, body) == (200, OBJECT_DATA)
    assert "Content-Range" not in headers
    (logged,) = server.log.entries
    assert (logged.start, logged.stop, logged.nbytes) == (100, 200, 300_000)


def test_stall(tmp_path: Path) -> None:
    with RangeServer(tmp_path, faults=lambda *_: Fault("stall")) as server:
        with pytest.raises(TimeoutError):
            ask(server, "/run.nd2", timeout=0.1)
        (logged,) = server.log.entries
        assert (logged.status, logged.nbytes) == (0, 0)
        server.faults = lambda *_: Fault("stall")
        waiting = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        waiting.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while server.log.requests < 2:  # what was not read yet would be reset
            time.sleep(0.01)
    with waiting:
        assert waiting.recv(100) == b""  # the end of the server is the end of the wait


def test_which_request_is_faulty(server: RangeServer) -> None:
    seen: list[tuple[Any, ...]] = []

    def first(*request: Any) -> Fault | None:
        seen.append(request)
        return Fault(503) if request[0] == 1 else None

    for _ in range(2):
        server.faults = first
        statuses = [ask(server, "/run.nd2", "-10", method=how)[0] for how in ("HEAD", "GET")]
        assert statuses == [503, 206]
    assert seen[:2] == [
        (1, "HEAD", "/run.nd2", (299_990, 300_000)),
        (2, "GET", "/run.nd2", (299_990, 300_000)),
    ]
    assert [request[0] for request in seen] == [1, 2, 1, 2]
    server.faults = None
    assert ask(server, "/run.nd2")[0] == 200


def test_failing_fault(server: RangeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.faults = lambda number, *_: Fault(1 // (number - 1))
    assert ask(server, "/run.nd2")[0] == 500
    assert "ZeroDivisionError" in caplog.text


def test_file_that_becomes_shorter(tmp_path: Path, server: RangeServer) -> None:
    server.bandwidth = 6e5
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(ask, server, "/run.nd2")
        time.sleep(0.1)
        (tmp_path / "run.nd2").write_bytes(OBJECT_DATA[:100])
        with pytest.raises(http.client.IncompleteRead):
            reading.result()
    assert 0 < server.log.bytes < 300_000
    assert ask(server, "/run.nd2")[2] == OBJECT_DATA[:100]


def test_client_that_leaves(server: RangeServer) -> None:
    server.bandwidth = 1e6
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET /run.nd2 HTTP/1.1\r\n\r\n")
        client.recv(10)
    deadline = time.monotonic() + 10
    while not server.log.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.log.bytes < 300_000


# S3


def test_ranges_of_an_object(store: S3Server, s3files: Any) -> None:
    path = f"{BUCKET_NAME}/run.nd2"
    assert s3files.cat_file(path, start=1000, end=2000) == OBJECT_DATA[1000:2000]
    (logged,) = store.log.entries
    assert (logged.method, logged.path, logged.status) == ("GET", f"/{path}", 206)
    assert (logged.start, logged.stop, logged.nbytes) == (1000, 2000, 1000)
    assert logged.began <= logged.ended <= time.monotonic()
    assert s3files.cat_file(path, start=-100) == OBJECT_DATA[-100:]
    assert s3files.cat_file(path) == OBJECT_DATA
    with s3files.open(path, block_size=50_000) as file:
        file.seek(250_000)
        assert file.read() == OBJECT_DATA[250_000:]


def test_many_ranges_at_once(store: S3Server) -> None:
    starts = [n * 1000 for n in range(64)]
    stops = [start + 1000 for start in starts]
    store.latency = 3.0  # longer than a busy machine takes to send all
    connections = {"config_kwargs": {"max_pool_connections": 64}}  # 10 without
    s3files = s3fs.S3FileSystem(**store.storage_options, **connections, skip_instance_cache=True)
    parts = s3files.cat_ranges([f"{BUCKET_NAME}/run.nd2"] * 64, starts, stops)
    assert b"".join(parts) == OBJECT_DATA[:64_000]
    assert (store.log.requests, store.log.bytes) == (64, 64_000)
    assert store.log.round_trips == 1


def test_large_object(store: S3Server, boto: Any) -> None:
    """Moto keeps large objects on disk."""
    data = os.urandom(8_000_000)
    store.put(BUCKET_NAME, "large.nd2", data)
    assert (
        boto.put_object(Bucket=BUCKET_NAME, Key="again.nd2", Body=data)["ETag"]
        == (boto.head_object(Bucket=BUCKET_NAME, Key="large.nd2")["ETag"])
    )
    got = boto.get_object(Bucket=BUCKET_NAME, Key="large.nd2", Range="bytes=7000000-7999999")
    with got["Body"] as body:
        assert body.read() == data[7_000_000:]


def test_range_is_as_of_moto(store: S3Server, boto: Any) -> None:
    """The server answers the plain case itself; with a condition the same request is moto's."""
    boto.put_object(
        Bucket=BUCKET_NAME,
        Key="a/b c+ü.nd2",
        Body=OBJECT_DATA,
        ContentType="image/nd2",
        Metadata={"of": "me"},
    )

    def answer(**condition: str) -> Any:
        got = boto.get_object(
            Bucket=BUCKET_NAME, Key="a/b c+ü.nd2", Range="bytes=10-4999", **condition
        )
        with got.pop("Body") as body:
            got["Body"] = body.read()
        passing = ("date", "server", "x-amzn-requestid", "access-control-allow-origin")
        headers = got["ResponseMetadata"]["HTTPHeaders"]
        got["ResponseMetadata"] = {k: v for k, v in headers.items() if k not in passing}
        return got

    own = answer()
    assert own["Body"] == OBJECT_DATA[10:5000]
    assert own["Metadata"] == {"of": "me"}
    assert own == answer(IfMatch=own["ETag"]) == answer(IfNoneMatch='"other"')


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({"Key": "run.nd2", "Range": "bytes=300000-"}, "InvalidRange"),
        ({"Key": "run.nd2", "Range": "bytes=0-9", "IfMatch": '"other"'}, "PreconditionFailed"),
        ({"Key": "no.nd2", "Range": "bytes=0-9"}, "NoSuchKey"),
        ({"Key": "no.nd2"}, "NoSuchKey"),
        ({"Key": "run.nd2", "Range": "bytes=0-9", "Bucket": "no-such-bucket"}, "NoSuchBucket"),
    ],
)
def test_refusals_of_s3(call: dict[str, str], code: str, boto: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        boto.get_object(**{"Bucket": BUCKET_NAME} | call)
    assert caught.value.response["Error"]["Code"] == code


def test_not_found_in_s3(store: S3Server, s3files: Any) -> None:
    for path in (f"{BUCKET_NAME}/no.nd2", "no-such-bucket/run.nd2"):
        with pytest.raises(FileNotFoundError):
            s3files.cat_file(path, start=0, end=10)
        with pytest.raises(FileNotFoundError):
            s3files.info(path)
    assert ask(store, "/no-such-bucket/run.nd2", "0-9")[0] == 404
    assert b"<Code>NoSuchKey</Code>" in ask(store, f"/{BUCKET_NAME}/no.nd2", "0-9")[2]


def test_head_of_an_object(store: S3Server, s3files: Any) -> None:
    info = s3files.info(f"{BUCKET_NAME}/run.nd2")
    assert info["size"] == 300_000
    (logged,) = store.log.entries
    assert (logged.method, logged.status, logged.nbytes) == ("HEAD", 200, 0)
    store.put(BUCKET_NAME, "run.nd2", OBJECT_DATA[::-1])
    assert s3files.info(f"{BUCKET_NAME}/run.nd2")["ETag"] != info["ETag"]


def test_anonymous_access(store: S3Server, s3files: Any) -> None:
    path = f"{BUCKET_NAME}/public.nd2"
    store.put(BUCKET_NAME, "public.nd2", OBJECT_DATA)
    options = {"anon": True, "endpoint_url": store.endpoint_url, "skip_instance_cache": True}
    anybody = s3fs.S3FileSystem(**options)
    with pytest.raises(PermissionError):
        anybody.cat_file(path, start=0, end=10)
    for public in (BUCKET_NAME, path):
        s3files.chmod(public, acl="public-read")
    assert anybody.cat_file(path, start=0, end=10) == OBJECT_DATA[:10]


def test_denied_by_policy(store: S3Server, boto: Any) -> None:
    store.create_bucket("closed-bucket")
    store.put("closed-bucket", "run.nd2", OBJECT_DATA)
    statement = '{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"*"}'
    boto.put_bucket_policy(
        Bucket="closed-bucket", Policy=f'{{"Version":"2012-10-17","Statement":[{statement}]}}'
    )
    with pytest.raises(botocore.exceptions.ClientError, match="403"):
        boto.get_object(Bucket="closed-bucket", Key="run.nd2", Range="bytes=0-9")


def test_versions(store: S3Server, boto: Any) -> None:
    store.create_bucket("versioned-bucket")
    boto.put_bucket_versioning(
        Bucket="versioned-bucket", VersioningConfiguration={"Status": "Enabled"}
    )
    old = boto.put_object(Bucket="versioned-bucket", Key="k", Body=b"old")["VersionId"]
    new = boto.put_object(Bucket="versioned-bucket", Key="k", Body=b"new")["VersionId"]

    def read(**which: str) -> tuple[bytes, str]:
        got = boto.get_object(Bucket="versioned-bucket", Key="k", Range="bytes=0-8", **which)
        with got["Body"] as body:
            return body.read(), got["VersionId"]

    assert read() == (b"new", new)
    assert read(VersionId=old) == (b"old", old)
    boto.delete_object(Bucket="versioned-bucket", Key="k")
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchKey"):
        read()


def test_writing(store: S3Server, s3files: Any, tmp_path: Path) -> None:
    """Uploads in one and in many parts, listing and removal go to moto."""
    folder = f"{BUCKET_NAME}/written"
    large = tmp_path / "large"
    large.write_bytes(os.urandom(12_000_000))
    s3files.pipe_file(f"{folder}/small", b"first")
    s3files.pipe_file(f"{folder}/small", b"second")
    s3files.put_file(str(large), f"{folder}/large", chunksize=5 * 2**20)
    store.upload(large, BUCKET_NAME, "written/uploaded")
    assert sorted(s3files.ls(folder)) == [
        f"{folder}/{name}" for name in ("large", "small", "uploaded")
    ]
    assert s3files.cat_file(f"{folder}/small") == b"second"
    for name in ("large", "uploaded"):
        got = s3files.cat_file(f"{folder}/{name}", start=6_000_000, end=6_000_100)
        assert got == large.read_bytes()[6_000_000:6_000_100]
    s3files.rm(folder, recursive=True)
    assert not s3files.exists(f"{folder}/small")


def test_body_in_chunks(store: S3Server, s3files: Any) -> None:
    path = f"{BUCKET_NAME}/chunked"
    pieces = iter([b"0123", OBJECT_DATA])
    headers: Any = {"Transfer_Encoding": "chunked", "Expect": "100-continue"}
    answered = ask(store, f"/{path}", method="PUT", body=pieces, chunked=True, **headers)
    assert answered[0] == 200
    assert s3files.cat_file(path) == b"0123" + OBJECT_DATA


def test_delays_and_faults_of_s3(store: S3Server, s3files: Any) -> None:
    path = f"{BUCKET_NAME}/run.nd2"
    store.faults = lambda number, *_: Fault(503) if number == 1 else None
    store.latency = 0.05
    store.bandwidth = 1e6
    assert s3files.cat_file(path, start=0, end=100_000) == OBJECT_DATA[:100_000]
    assert [logged.status for logged in store.log.entries] == [503, 206]
    assert store.log.round_trips == 2
    assert store.log.entries[1].ended - store.log.entries[1].began > 0.12
    store.faults = lambda *_: Fault("truncate")
    assert ask(store, f"/{quote(path)}", "0-99", Authorization="x")[2] == OBJECT_DATA[:50]


def test_moto_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moto.core.models", None)
    with pytest.raises(ImportError, match=r'pip install "xarray-nd2\[demo\]"'):
        S3Server()


# What remains


def test_no_thread_remains(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with RangeServer(tmp_path) as server:
        server.put("run.nd2", OBJECT_DATA)
        ask(server, "/run.nd2")
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        assert set(threading.enumerate()) != before
    assert set(threading.enumerate()) == before
    with idle:
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        ask(server, "/run.nd2")
    with server:
        assert ask(server, "/run.nd2")[2] == OBJECT_DATA  # what was put, it keeps


@pytest.mark.parametrize(
    "script",
    [
        # A server that never runs, and one that is left open.
        "from xarray_nd2.testing import RangeServer\nRangeServer()\nRangeServer().__enter__()",
        # Moto is loaded for nothing else, and empty again after the last server.
        """
import http.client, sys, threading
from xarray_nd2.testing import S3Server
assert "moto" not in sys.modules
first, second = S3Server(), S3Server()
with first:
    first.create_bucket("bucket")
    with second:
        second.put("bucket", "run.nd2", b"0123456789" * 1_000_000)
        second.put("bucket", "run.nd2", b"0123")
    assert first.size_of("/bucket/run.nd2") == 4
    connection = http.client.HTTPConnection("127.0.0.1", first.port)
    connection.request("GET", "/bucket")
    assert connection.getresponse().read()
with second:
    assert second.size_of("/bucket/run.nd2") is None
    second.create_bucket("bucket")
connection.close()
assert threading.active_count() == 1
""",
    ],
    ids=["http", "s3"],
)
def test_nothing_remains(script: str) -> None:
    """Warnings of unclosed things come when an interpreter ends, and cannot be raised."""
    options = ["-W", "error", "-W", "always::ResourceWarning", "-c", script]
    done = subprocess.run([sys.executable, *options], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
