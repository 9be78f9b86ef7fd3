"""What holds for every protocol, tried on a real server of each.

The servers are those of ``tests/servers``; what is not installed is skipped, and ``.ci/servers``
installs all of them.
"""

from __future__ import annotations

import io
import multiprocessing
import pickle
import subprocess
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import methodcaller
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import fsspec
import numpy as np
import pytest
import xarray as xr

from tests.servers import (
    Missing,
    Store,
    azurite,
    fuse,
    gcs,
    measure,
    nginx,
    openssh,
    samba,
    swift,
    tls,
    webdav,
)
from tests.servers.store import put_into
from tests.servers.wire import wire
from xarray_nd2 import ND2ChangedError, ND2Error, ND2FormatError, ND2NotFoundError, ND2SourceError
from xarray_nd2.io.secrets import public_url
from xarray_nd2.testing import Fault, RangeServer, S3Server, write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import TypeVar

    from tests.servers.wire import Wire

    S = TypeVar("S")

pytestmark = [
    # fsspec's cache of blocks maps a file and leaves it to the garbage collector.
    pytest.mark.filterwarnings(r"ignore:.*\n?.*<_io\.(BufferedRandom|FileIO) name='\S+/cache\d+/"),
]

SHAPE = {"T": 5, "C": 2, "Y": 200, "X": 260}
CROP: dict[str, Any] = {"T": 3, "Y": slice(60, 124), "X": slice(40, 90)}
# Where the rows of the table in docs/protocols.md are measured.
FIXTURES = {
    "HTTP (nginx)": "http_store",
    "S3 (Swift)": "swift_store",
    "Azure (Azurite)": "abfs_store",
    "Google Cloud Storage (emulator)": "gs_store",
    "WebDAV (rclone)": "webdav_store",
    "Windows share (Samba)": "smb_store",
    "SFTP (OpenSSH)": "sftp_store",
}


def content(seed: int = 0) -> bytes:
    """A file of about 1 MB; the same size, but other pixels, for every seed."""
    file = io.BytesIO()
    write_nd2(file, pixels(seed), "".join(SHAPE), timestamps=[0.0, 1.0, 2.0, 3.0, 4.0])
    return file.getvalue()


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**16, tuple(SHAPE.values()), np.uint16)


# ------------------------------------------------------------------------------- the stores


@pytest.fixture(scope="session")
def start(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Callable[..., AbstractContextManager[S]], str], Iterator[S]]:
    """Run a server; skip if it is not installed."""

    def started(
        serve: Callable[..., AbstractContextManager[S]], name: str, *args: Any
    ) -> Iterator[S]:
        context = serve(tmp_path_factory.mktemp("servers") / name, *args)
        try:
            server = context.__enter__()
        except Missing as reason:
            pytest.skip(str(reason))
        try:
            yield server
        finally:
            context.__exit__(None, None, None)

    return started


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tls.Certificates | None]:
    """Certificates that this process trusts, and those that it starts from now on."""
    import aiohttp.connector

    try:
        made = tls.make_certificates(tmp_path_factory.mktemp("tls"))
    except Missing:
        yield None
        return
    # When aiohttp is imported it reads SSL_CERT_FILE, as a user would set it. Here it already was.
    aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(made.authority)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made.authority))
        yield made


@pytest.fixture(scope="session")
def the_nginx(start: Any, certificates: tls.Certificates | None) -> Iterator[nginx.Nginx]:
    if certificates is None:
        pytest.skip("openssl is not installed")
    yield from start(nginx.serve, "nginx", certificates)


@pytest.fixture(scope="session")
def http_store(the_nginx: nginx.Nginx) -> Store:
    return the_nginx.http


@pytest.fixture(scope="session")
def https_store(the_nginx: nginx.Nginx) -> Store:
    return the_nginx.https


@pytest.fixture(scope="session")
def rangeless_store(the_nginx: nginx.Nginx) -> Store:
    return the_nginx.rangeless


@pytest.fixture(scope="session")
def headless_store() -> Iterator[Store]:
    """Signed links that only let GET requests in."""
    with RangeServer(faults=lambda _, method, *__: Fault(403) if method != "GET" else None) as one:
        secret = "X-Amz-Signature=0123456789abcdef"
        yield Store(
            lambda name: f"{one.url(name)}?{secret}", {}, one.put, one.port, None, (secret,)
        )


@pytest.fixture(scope="session")
def moto_store(s3: S3Server) -> Store:
    def store(port: int) -> Store:
        options = s3.storage_options | {"endpoint_url": f"http://127.0.0.1:{port}"}
        return Store(lambda name: f"s3://bucket/{name}", options, put, port, store, ("testing",))

    def put(name: str, data: bytes) -> None:
        s3.put("bucket", name, data)

    return store(s3.port)


@pytest.fixture(scope="session")
def swift_store(start: Any) -> Iterator[Store]:
    yield from start(swift.serve, "swift")


@pytest.fixture(scope="session")
def presigned_store(swift_store: Store) -> Store:
    """Links of Swift, which checks their signatures; they are signed for GET alone."""
    import s3fs

    signing = s3fs.S3FileSystem(**swift_store.options)
    links: dict[str, str] = {}

    def link(name: str) -> str:
        if name not in links:
            links[name] = signing.sign(f"bucket/{name}", expiration=3600)
        return links[name]

    signature = parse_qs(urlsplit(link("run.nd2")).query)
    secrets = tuple(values[0] for key, values in signature.items() if "ignature" in key)
    assert secrets
    return Store(link, {}, swift_store.put, swift_store.port, None, secrets)


@pytest.fixture(scope="session")
def abfs_store(start: Any) -> Iterator[Store]:
    pytest.importorskip("adlfs")
    yield from start(azurite.serve, "azurite")


@pytest.fixture(scope="session")
def gs_store(start: Any) -> Iterator[Store]:
    pytest.importorskip("gcsfs")
    yield from start(gcs.serve, "gcs")


@pytest.fixture(scope="session")
def smb_store(start: Any) -> Iterator[Store]:
    pytest.importorskip("smbprotocol")
    yield from start(samba.serve, "samba")


@pytest.fixture(scope="session")
def sftp_store(start: Any) -> Iterator[Store]:
    pytest.importorskip("paramiko")
    yield from start(openssh.serve, "openssh")


@pytest.fixture(scope="session")
def webdav_store(start: Any) -> Iterator[Store]:
    pytest.importorskip("webdav4")
    yield from start(webdav.serve, "webdav")


@pytest.fixture(scope="session")
def file_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("local")
    return Store(lambda name: (folder / name).as_uri(), {}, put_into(folder))


@pytest.fixture(scope="session")
def fuse_store(mounted_share: fuse.FuseShare) -> Store:
    return Store(lambda name: str(mounted_share.path / name), {}, mounted_share.put)


@pytest.fixture(scope="session")
def memory_store() -> Store:
    def put(name: str, data: bytes) -> None:
        fsspec.filesystem("memory").pipe_file(f"/protocols/{name}", data)

    return Store(lambda name: f"memory://protocols/{name}", {}, put)


def cached(cache: str, inner: Store, folder: Path) -> Store:
    def url(name: str) -> str:
        return f"{cache}::{inner.url(name)}"

    protocol = urlsplit(inner.url("x")).scheme
    options = {cache: {"cache_storage": str(folder)}, protocol: dict(inner.options)}
    return Store(url, options, inner.put, secrets=inner.secrets)


def zipped(inner: Store) -> Store:
    def url(name: str) -> str:
        return f"zip://{PurePosixPath(name).name}::{inner.url(name)}.zip"

    def put(name: str, data: bytes) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(PurePosixPath(name).name, data)
        inner.put(f"{name}.zip", archive.getvalue())

    protocol = urlsplit(inner.url("x")).scheme
    return Store(url, {protocol: dict(inner.options)}, put, secrets=inner.secrets)


@dataclass(frozen=True)
class Place:
    """A store, and what can be expected of it."""

    store: Store
    way: str

    @property
    def is_shared(self) -> bool:
        """Whether other processes can read it."""
        return self.way != "memory"

    @property
    def tells_of_change(self) -> bool:
        """Whether a file that was replaced under the same name can be told."""
        return "cache" not in self.way and self.way != "rangeless"

    def open(self, name: str = "run.nd2", **options: Any) -> xr.Dataset:
        return xr.open_dataset(
            self.store.url(name), engine="nd2", storage_options=self.store.options, **options
        )


STORES = [
    "moto",
    "swift",
    "http",
    "https",
    "rangeless",
    "headless",
    "presigned",
    "abfs",
    "gs",
    "smb",
    "sftp",
    "webdav",
    "file",
    "fuse",
    "memory",
]
CHAINS = [
    f"{link}-{inner}"
    for link in ("simplecache", "filecache", "blockcache", "zip")
    for inner in ("http", "moto")
]


@pytest.fixture(scope="session", params=STORES + CHAINS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    link, _, inner = request.param.rpartition("-")
    store: Store = request.getfixturevalue(f"{inner}_store")
    if link == "zip":
        store = zipped(store)
    elif link:
        store = cached(link, store, tmp_path_factory.mktemp("cache"))
    for name in ("run.nd2", "folder/run.nd2"):
        store.put(name, content())
    store.put("empty.nd2", b"")
    store.put("cut.nd2", content()[:-5000])
    return Place(store, request.param)


@pytest.fixture(scope="session")
def elsewhere(certificates: object) -> Iterator[ProcessPoolExecutor]:
    """A process that was spawned and has opened nothing."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


# ---------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("chunks", [None, {"T": 1}], ids=["lazy", "dask"])
def test_pixels(place: Place, chunks: dict[str, int] | None) -> None:
    ds = place.open(chunks=chunks)
    np.testing.assert_array_equal(ds.image.values, pixels())


def test_crop(place: Place) -> None:
    crop = place.open(max_gap=0).image.isel(CROP)
    np.testing.assert_array_equal(crop.values, pixels()[3, :, 60:124, 40:90])


def test_missing_file(place: Place) -> None:
    with pytest.raises(ND2NotFoundError) as caught:
        place.open("no.nd2")
    assert public_url(place.store.url("no.nd2")) in str(caught.value)


def test_directory(place: Place) -> None:
    # A web server's list of a folder is a page, which a cache takes for the file.
    page = place.way in ("simplecache-http", "filecache-http")
    with pytest.raises(ND2FormatError if page else ND2SourceError) as caught:
        place.open("folder")
    assert public_url(place.store.url("folder")) in str(caught.value)


@pytest.mark.parametrize("name", ["empty.nd2", "cut.nd2"])
def test_damaged_file(place: Place, name: str) -> None:
    # fsspec's cache of blocks fails on an empty file of a web server.
    fails = name == "empty.nd2" and place.way == "blockcache-http"
    with pytest.raises(ND2SourceError if fails else ND2FormatError) as caught:
        place.open(name)
    assert public_url(place.store.url(name)) in str(caught.value)


def test_threads(place: Place) -> None:
    ds = place.open(max_gap=0)
    expected = pixels()
    with ThreadPoolExecutor(8) as threads:
        read = threads.map(lambda t: ds.image.isel(T=t % 5, Y=slice(t, 99, 7)).values, range(16))
        for t, values in enumerate(read):
            np.testing.assert_array_equal(values, expected[t % 5, :, t:99:7])


def test_another_process(place: Place, elsewhere: ProcessPoolExecutor) -> None:
    if not place.is_shared:
        pytest.skip("only this process has it")
    crop = place.open(chunks={}).image.isel(CROP)
    values = elsewhere.submit(methodcaller("compute", scheduler="threads"), crop).result().values
    np.testing.assert_array_equal(values, pixels()[3, :, 60:124, 40:90])


def test_replaced_file(place: Place, elsewhere: ProcessPoolExecutor) -> None:
    if not place.tells_of_change:
        pytest.skip("it keeps what it has read")
    name = "replaced.nd2"
    place.store.put(name, content(1))
    here, there, later = place.open(name), place.open(name, chunks={}), place.open(name)
    place.store.put(name, content(2))
    with pytest.raises(ND2ChangedError) as caught:
        here.image.isel(T=1).load()
    assert public_url(place.store.url(name)) in str(caught.value)
    if place.is_shared:
        with pytest.raises(ND2ChangedError):
            elsewhere.submit(methodcaller("compute"), there.image.isel(T=1)).result()
    # Opened again, it is the new file, and those opened before still know that it is not theirs.
    np.testing.assert_array_equal(place.open(name).image.isel(T=2).values, pixels(2)[2])
    with pytest.raises(ND2ChangedError):
        later.image.isel(T=2).load()


def shown(ds: xr.Dataset) -> str:
    """All that a user may see or save of a dataset."""
    kept: list[Any] = [ds.attrs, ds.encoding]
    for variable in ds.variables.values():
        kept += [variable.attrs, variable.encoding, variable._data]
    dask = ds.chunk().image.data
    return "\n".join([repr(ds), ds._repr_html_(), *map(repr, kept), *map(str, dask.dask.keys())])


def test_secrets_are_not_shown(place: Place) -> None:
    text = shown(place.open())
    for name in ("no.nd2", "folder", "empty.nd2", "cut.nd2"):
        with pytest.raises(ND2Error) as caught:
            place.open(name)
        text += f"\n{caught.value}\n{caught.value!r}"
        text += str(pickle.loads(pickle.dumps(caught.value)))
    for secret in place.store.secrets:
        assert secret not in text


# ------------------------------------------------------------------------- single protocols


@pytest.fixture(params=["http", "moto", "abfs", "gs", "smb", "sftp", "webdav"])
def wired(request: pytest.FixtureRequest) -> Iterator[tuple[Place, Wire]]:
    """A store at the end of a wire, which nobody has used yet."""
    store: Store = request.getfixturevalue(f"{request.param}_store")
    store.put("run.nd2", content())
    with wire(store.port) as line:
        assert store.at is not None
        yield Place(store.at(line.port), request.param), line


def test_lost_connections(wired: tuple[Place, Wire]) -> None:
    place, line = wired
    ds = place.open()
    np.testing.assert_array_equal(ds.image.isel(T=0).values, pixels()[0])
    line.cut()
    np.testing.assert_array_equal(ds.image.isel(T=1).values, pixels()[1])
    line.cut()
    np.testing.assert_array_equal(place.open().image.isel(T=2).values, pixels()[2])


def test_silence(wired: tuple[Place, Wire]) -> None:
    """An error in a limited time, and right pixels when the store speaks again."""
    place, line = wired
    if place.way == "sftp":  # whose client has a patience of its own while it connects again
        options = {**place.store.options, "banner_timeout": 1}
        place = replace(place, store=replace(place.store, options=options))
    ds = place.open(patience_seconds=1.5)
    np.testing.assert_array_equal(ds.image.isel(T=0).values, pixels()[0])
    line.muted = True
    with pytest.raises(ND2SourceError, match="run.nd2: bytes ") as caught:
        ds.image.isel(T=1).load()
    assert "given up" in str(caught.value) or "SSH protocol banner" in str(caught.value)
    with pytest.raises(ND2SourceError):
        place.open(patience_seconds=1.5)
    line.muted = False
    line.cut()
    np.testing.assert_array_equal(ds.image.isel(T=2).values, pixels()[2])


def test_a_certificate_that_is_not_trusted(
    https_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot pass, so it is not tried again."""
    https_store.put("run.nd2", content())
    monkeypatch.delenv("SSL_CERT_FILE")
    read = f"import xarray; xarray.open_dataset({https_store.url('run.nd2')!r}, engine='nd2')"
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    assert "ND2SourceError" in said
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "given up" not in said


@pytest.mark.parametrize("name", FIXTURES)
def test_requests_are_as_documented(name: str, request: pytest.FixtureRequest) -> None:
    counted = measure.requests(request.getfixturevalue(FIXTURES[name]))
    _, _, _, another, _, crop, _ = measure.table()[name]
    assert (another, crop) == tuple(f"{n or '?'}" for n in (counted.another, counted.crop))


def test_a_share_is_asked_once_whether_the_file_is_the_same(smb_store: Store) -> None:
    smb_store.put("run.nd2", content())
    counts = []
    with wire(smb_store.port) as line:
        assert smb_store.at is not None
        ds = Place(smb_store.at(line.port), "smb").open()
        for t in range(4):
            line.clear()
            ds.image.isel(T=t).load()
            line.settle()
            counts.append(line.requests)
    first, *others = counts
    assert set(others) == {3}  # open, read, close
    assert first > 3


def test_many_large_reads_of_a_share(smb_store: Store) -> None:
    """More at once than the server allows a new connection."""
    frames = np.random.default_rng(3).integers(0, 2**16, (40, 1, 1024, 1024), np.uint16)
    file = io.BytesIO()
    write_nd2(file, frames, "TCYX")
    smb_store.put("large.nd2", file.getvalue())
    with wire(smb_store.port) as line:
        assert smb_store.at is not None
        ds = Place(smb_store.at(line.port), "smb").open("large.nd2")
        np.testing.assert_array_equal(ds.image.values, frames)


def test_small_file_without_ranges(rangeless_store: Store) -> None:
    rangeless_store.put("run.nd2", content(5))
    with wire(rangeless_store.port) as line:
        assert rangeless_store.at is not None
        place = Place(rangeless_store.at(line.port), "rangeless")
        ds = place.open(chunks={"T": 1})
        np.testing.assert_array_equal(ds.image.values, pixels(5))
        assert line.requests == 2  # for both ends, as of any server
        rangeless_store.put("run.nd2", content(6))
        again = place.open()
        np.testing.assert_array_equal(again.image.values, pixels(6))
        with pytest.raises(ND2ChangedError):
            ds.image.isel(T=0).compute()


def test_large_file_without_ranges(rangeless_store: Store) -> None:
    rangeless_store.put("large.nd2", content() + bytes(100_000_000))
    with wire(rangeless_store.port) as line:
        assert rangeless_store.at is not None
        place = Place(rangeless_store.at(line.port), "rangeless")
        with pytest.raises(ND2SourceError, match=r"large\.nd2: the server ignores Range requests"):
            place.open("large.nd2")
        assert line.received < 20_000_000  # what was on its way already


def test_secret_in_the_url(smb_store: Store) -> None:
    smb_store.put("run.nd2", content())
    [secret] = smb_store.secrets
    url = smb_store.url("{}").replace("smb://", f"smb://root:{secret}@")
    ds = xr.open_dataset(url.format("run.nd2"), engine="nd2")
    np.testing.assert_array_equal(ds.image.isel(T=0).values, pixels()[0])
    with pytest.raises(ND2NotFoundError) as caught:
        xr.open_dataset(url.format("no.nd2"), engine="nd2")
    assert secret not in shown(ds) + str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("swift", "secret"),
        ("abfs", "connection_string"),
        ("webdav", "auth"),
        ("smb", "password"),
        ("sftp", "passphrase"),
    ],
)
def test_wrong_secret(name: str, key: str, request: pytest.FixtureRequest) -> None:
    store: Store = request.getfixturevalue(f"{name}_store")
    store.put("run.nd2", content())
    right = store.options[key]
    wrong = "AAAA" + right[4:] if isinstance(right, str) else ("user", "open sesame")
    with wire(store.port) as line:
        assert store.at is not None
        there = store.at(line.port)
        if key == "connection_string":
            wrong = there.options[key].replace("Key=Eby8", "Key=Aby8")
        options = {**there.options, key: wrong}
        with pytest.raises(ND2SourceError) as caught:
            xr.open_dataset(there.url("run.nd2"), engine="nd2", storage_options=options)
    assert isinstance(caught.value, PermissionError) == (name != "sftp")
    assert public_url(there.url("run.nd2")) in str(caught.value)
    assert not any(secret[4:] in str(caught.value) for secret in store.secrets)
