"""Which transport reads a filesystem: by what it is, and not by the protocol that it claims."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from fsspec.asyn import AsyncFileSystem
from fsspec.core import OpenFile
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from xarray_nd2 import ND2NotFoundError, ND2PermissionError
from xarray_nd2.io.choose import transport_for
from xarray_nd2.io.filesystems import AsyncTransport, QueueTransport
from xarray_nd2.io.http import HTTPTransport
from xarray_nd2.testing import Fault, RangeServer, write_nd2

if TYPE_CHECKING:
    from xarray_nd2.testing import S3Server

FRAMES = np.random.default_rng(5).integers(0, 2**16, (4, 1, 30, 40)).astype("uint16")


@pytest.fixture(scope="module")
def content() -> bytes:
    file = io.BytesIO()
    write_nd2(file, FRAMES, "TCYX")
    return file.getvalue()


def claiming(protocol: str | tuple[str, ...], kind: type, content: bytes) -> Any:
    """A filesystem of one file that has no more than any has, but for what it claims to be."""

    class Claiming(kind):  # type: ignore[misc]
        cachable = False

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "size": len(content), "type": "file"}

        async def _info(self, path: str, **_: Any) -> dict[str, Any]:
            return self.info(path)

        def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
            return content[start:end]

        async def _cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
            return content[start:end]

        def _open(self, *_: Any, **__: Any) -> Any:
            return io.BytesIO(content)

    Claiming.protocol = protocol
    return Claiming()


PROTOCOLS: list[str | tuple[str, ...]] = [
    *("file", "memory", "smb", "webdav", "http", "s3", "gs", "abfs"),
    ("http", "https"),
    ("s3", "s3a"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
@pytest.mark.parametrize("kind", [AbstractFileSystem, AsyncFileSystem])
def test_what_claims_a_protocol(
    protocol: str | tuple[str, ...], kind: type, content: bytes
) -> None:
    fs = claiming(protocol, kind, content)
    generic = AsyncTransport if kind is AsyncFileSystem else QueueTransport
    assert type(transport_for(fs, "run.nd2")) is generic
    ds = xr.open_dataset(OpenFile(fs, "run.nd2"), engine="nd2")
    np.testing.assert_array_equal(ds.image.values, FRAMES)


def test_what_reads_in_its_own_way(content: bytes) -> None:
    """Such as one that decrypts: what it gives is the file, and not what its base would."""

    class Inverted(MemoryFileSystem):  # type: ignore[misc]
        def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
            return bytes(255 - byte for byte in super().cat_file(path, start, end))

        def _open(self, path: str, *_: Any, **__: Any) -> Any:
            return io.BytesIO(self.cat_file(path))

    MemoryFileSystem().pipe_file("/inverted.nd2", bytes(255 - byte for byte in content))
    ds = xr.open_dataset(OpenFile(Inverted(), "/inverted.nd2"), engine="nd2")
    np.testing.assert_array_equal(ds.image.values, FRAMES)


def test_what_is_derived_and_reads_as_its_base() -> None:
    class Named(HTTPFileSystem):  # type: ignore[misc]
        pass

    assert type(transport_for(Named(), "http://127.0.0.1/run.nd2")) is HTTPTransport


OBSTORE = """
import sys
import numpy as np, obstore.fsspec, xarray as xr
obstore.fsspec.register(["s3", "http"])
http_url, endpoint, total = sys.argv[1:]
config = {"endpoint": endpoint, "access_key_id": "testing", "secret_access_key": "testing"}
config |= {"region": "us-east-1", "virtual_hosted_style_request": False}
plain = {"client_options": {"allow_http": True}}
for url, options in ((http_url, plain), ("s3://bucket/obstore.nd2", plain | {"config": config})):
    ds = xr.open_dataset(url, engine="nd2", chunks={}, storage_options=options)
    assert int(ds.image.astype("int64").sum()) == int(total), url
print("read")
"""


def test_filesystems_of_obstore(content: bytes, http: RangeServer, s3: S3Server) -> None:
    pytest.importorskip("obstore", reason="no obstore: pip install obstore")
    http.put("obstore.nd2", content)
    s3.put("bucket", "obstore.nd2", content)
    total = str(int(FRAMES.astype("int64").sum()))
    command = [sys.executable, "-c", OBSTORE, http.url("obstore.nd2"), s3.endpoint_url, total]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "read\n", done.stderr


class AtIPv6(RangeServer):
    address = "::1"


# fsspec's cache of blocks leaves the file that it keeps them in to the garbage collector.
UNCLOSED = pytest.mark.filterwarnings(
    "ignore:.*unclosed file.*", "ignore:Exception ignored in.*FileIO"
)


@UNCLOSED
@pytest.mark.parametrize("chain", ["", "simplecache::", "blockcache::"])
def test_addresses_with_colons(chain: str, content: bytes) -> None:
    try:
        with AtIPv6() as server:
            server.put("run.nd2", content)
            ds = xr.open_dataset(chain + server.url("run.nd2"), engine="nd2")
            np.testing.assert_array_equal(ds.image.values, FRAMES)
            assert "[::1]" in ds.attrs["source"]
    except OSError as error:
        if server.port:
            raise
        pytest.skip(f"this machine has no IPv6 loopback: {error}")


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"headers": "Authorization: me"}, "str"),
        ({"headers": ["Authorization: me"]}, "list"),
        ({"client_kwargs": {"headers": "Authorization: me"}}, "str"),
        ({"headers": 3}, "int"),
    ],
)
def test_headers_that_are_none(options: dict[str, Any], given: str) -> None:
    with pytest.raises(OSError, match=f"connecting: .*mapping of names to values, not {given}"):
        xr.open_dataset("http://127.0.0.1:1/run.nd2", engine="nd2", storage_options=options)


@UNCLOSED
@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_block_that_could_not_be_fetched(status: int, http: RangeServer) -> None:
    """The cache marks it as there, so that whoever reads it again would get zeros."""
    frames = np.random.default_rng(1).integers(1, 2**16, (8, 1, 1024, 1024)).astype("uint16")
    file = io.BytesIO()
    write_nd2(file, frames, "TCYX")
    name = f"blocks-{status}.nd2"
    http.put(name, file.getvalue())
    ds = xr.open_dataset("blockcache::" + http.url(name), engine="nd2", cache=False)
    http.faults = lambda number, *_: Fault(status) if number <= 3 else None
    try:
        values = ds.image.isel(T=4).values
    except ND2PermissionError:
        assert status == 403
    else:
        np.testing.assert_array_equal(values, frames[4])
    http.faults = None
    for t in (4, 3, 5):
        np.testing.assert_array_equal(ds.image.isel(T=t).values, frames[t])


@UNCLOSED
@pytest.mark.parametrize("chain", ["", "simplecache::", "filecache::", "blockcache::"])
@pytest.mark.parametrize("status", [401, 403])
def test_refusals_behind_a_cache(
    chain: str, status: int, http: RangeServer, content: bytes
) -> None:

    name = f"refused-{status}.nd2"  # what is still being asked for may come when it is allowed
    http.put(name, content)
    http.faults = lambda *_: Fault(status)
    with pytest.raises(ND2PermissionError, match="access was refused"):
        xr.open_dataset(chain + http.url(name), engine="nd2")
    http.faults = None
    with pytest.raises(ND2NotFoundError, match="there is no such file"):
        xr.open_dataset(chain + http.url("other.nd2"), engine="nd2")
