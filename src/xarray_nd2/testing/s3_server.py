"""An S3 store on loopback: that of moto, behind a server that logs requests."""

from __future__ import annotations

import hashlib
import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from xarray_nd2.testing.answers import Answer
from xarray_nd2.testing.loopback import Loopback

if TYPE_CHECKING:
    import os
    from typing import Self

    from xarray_nd2.testing.answers import Asked
    from xarray_nd2.testing.faults import FaultOfRequest


class S3Server(Loopback):
    """Moto's S3 in a thread of this process.

    Moto has one store for all of a process: servers that run at the same time share it, and it is
    emptied with the last of them.

    Parameters
    ----------
    latency : float
        Seconds before each answer.
    bandwidth : float or None
        Bytes per second, shared by all connections; None for no limit.
    faults : callable, optional
        ``faults(number, method, path, range)`` gives the `Fault` of a request, or None; numbers
        count from 1 since the attribute was set last.

    Raises
    ------
    ImportError
        Moto is not installed.
    """

    _running_count: ClassVar[int] = 0
    _running_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        *,
        latency: float = 0.0,
        bandwidth: float | None = None,
        faults: FaultOfRequest | None = None,
    ) -> None:
        super().__init__(latency=latency, bandwidth=bandwidth, faults=faults)
        try:
            from moto.core.models import DEFAULT_ACCOUNT_ID
            from moto.moto_server import werkzeug_app
            from moto.s3.models import s3_backends
            from werkzeug.test import Client
        except ImportError as error:
            raise ImportError('the S3 server needs moto: pip install "xarray-nd2[demo]"') from error
        application = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)
        self._moto = Client(application, use_cookies=False)
        self._accounts = s3_backends
        self._account = DEFAULT_ACCOUNT_ID

    def __enter__(self) -> Self:
        with self._running_lock:
            S3Server._running_count += 1
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        with self._running_lock:
            S3Server._running_count -= 1
            if not S3Server._running_count:
                self._moto.post("/moto-api/reset")

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options with which fsspec opens its ``s3://`` URLs.

        The region is left to the environment (``AWS_DEFAULT_REGION=us-east-1``).
        """
        return {"key": "testing", "secret": "testing", "endpoint_url": self.endpoint_url}

    def create_bucket(self, name: str) -> None:
        """Make a bucket, unless there is one of that name."""
        if name not in self._backend.buckets:
            self._backend.create_bucket(name, "us-east-1")

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store `data` as an object, for its owner to read."""
        # Moto would compute it while the first request waits.
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self._backend.put_object(bucket, key, data, etag=etag)

    def upload(self, path: str | os.PathLike[str], bucket: str, key: str) -> None:
        """Store a file as an object."""
        self.put(bucket, key, Path(path).read_bytes())

    def size_of(self, path: str) -> int | None:
        """Bytes of the object at a path; None if there is none."""
        _, stored = self._find_object(path)
        return None if stored is None else stored.size

    def answer(self, asked: Asked) -> Answer:
        """Answer plain ranges of objects from memory, and all else as moto does."""
        ranged = self._answer_range(asked)
        if ranged is not None:
            return ranged
        of_connection = ("expect", "transfer-encoding")  # which has come to its end here
        said = self._moto.open(
            path=asked.target,
            method=asked.method,
            headers=[pair for pair in asked.headers.items() if pair[0] not in of_connection],
            input_stream=io.BytesIO(asked.body),
            base_url=self.endpoint_url,
            buffered=True,
        )
        headers = [pair for pair in said.headers if pair[0].lower() != "content-length"]
        length = said.content_length if asked.method == "HEAD" else None
        return Answer(said.status_code, headers, memoryview(said.data), length)

    def _answer_range(self, asked: Asked) -> Answer | None:
        """A range of an object; None in all but the plainest case, for moto to decide.

        For every range moto copies all of the object, 150 ms for one of 200 MB, and takes 2 ms for
        the rest of it: a benchmark would measure nothing else.
        """
        if asked.method != "GET" or asked.range is None:
            return None
        bucket, stored = self._find_object(asked.path)
        if stored is None or asked.range[0] >= stored.size:
            return None
        conditions = {name for name in asked.headers if name.startswith("if-")}
        if "if-match" in conditions and asked.headers["if-match"] == stored.etag:
            conditions.remove("if-match")
        query = {name.lower() for name in parse_qs(urlsplit(asked.target).query)}
        signed = "authorization" in asked.headers or "x-amz-signature" in query
        readable = signed or stored.acl.public_read
        plain = bucket.policy is None and stored.storage_class == "STANDARD"
        has_more = any(not name.startswith("x-amz-") for name in query)
        if has_more or conditions or not (readable and plain):
            return None
        start, stop = asked.range
        with stored.lock:
            buffer = stored._value_buffer  # noqa: SLF001
            buffer.seek(start)
            data = buffer.read(stop - start)
        headers = {
            **stored.metadata,
            **stored.response_dict,
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes {start}-{stop - 1}/{stored.size}",
        }
        del headers["content-length"]
        return Answer(206, headers.items(), memoryview(data))

    def _find_object(self, path: str) -> tuple[Any, Any]:
        """Bucket and object at a path, as moto keeps them; None for what is not there."""
        name, _, key = path.lstrip("/").partition("/")
        bucket = self._backend.buckets.get(name)
        stored = None if bucket is None else bucket.keys.get(key)
        return bucket, stored if hasattr(stored, "size") else None

    @property
    def _backend(self) -> Any:
        return self._accounts[self._account]["aws"]
