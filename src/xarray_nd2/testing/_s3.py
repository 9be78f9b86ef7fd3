"""An S3 store on loopback: moto's, with a log of what it is asked for."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from xarray_nd2.testing._http import _asked_range
from xarray_nd2.testing._log import Request, RequestLog

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    StartResponse = Callable[..., Any]
    Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

_KEY = "testing"
_running: set[S3Server] = set()
_running_lock = threading.Lock()


class S3Server:
    """Moto's S3 in a thread of this process.

    Moto has one store for a whole process, so servers that run at the same time share their
    buckets; it is emptied when the last one stops.

    Parameters
    ----------
    latency : float
        Seconds before each answer.

    Raises
    ------
    ImportError
        Moto is not installed.
    """

    def __init__(self, *, latency: float = 0.0) -> None:
        self.log = RequestLog()
        self.latency = latency
        self.port = 0
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint_url(self) -> str:
        """Where the store is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options with which fsspec opens its ``s3://`` URLs."""
        return {"key": _KEY, "secret": _KEY, "endpoint_url": self.endpoint_url}

    def __enter__(self) -> Self:
        try:
            from moto.moto_server.werkzeug_app import (
                DomainDispatcherApplication,
                create_backend_app,
            )
            from werkzeug.serving import WSGIRequestHandler, make_server
        except ImportError as error:
            raise ImportError('the S3 server needs moto: pip install "xarray-nd2[demo]"') from error

        class QuietRequestHandler(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"  # keeps connections open
            disable_nagle_algorithm = True

            def log_request(self, *args: object) -> None:
                pass

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        application = self._counted(DomainDispatcherApplication(create_backend_app))
        self._server = make_server(
            "127.0.0.1", 0, application, threaded=True, request_handler=QuietRequestHandler
        )
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="s3-server")
        self._thread.start()
        with _running_lock:
            _running.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from moto.core.model_instances import reset_model_data

        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()
        with _running_lock:
            _running.discard(self)
            if not _running:
                reset_model_data()

    def create_bucket(self, name: str) -> None:
        """Make a bucket, unless there is one of that name."""
        if name not in self._backend().buckets:
            self._backend().create_bucket(name, "us-east-1")

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store `data` as an object."""
        self._backend().put_object(bucket, key, data)

    def upload(self, path: str | os.PathLike[str], bucket: str, key: str) -> None:
        """Store a file as an object."""
        from pathlib import Path

        self.put(bucket, key, Path(path).read_bytes())

    def _backend(self) -> Any:
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def _counted(self, application: Application) -> Application:
        def counted(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
            began = time.monotonic()
            if self.latency:
                time.sleep(self.latency)
            answer: dict[str, Any] = {"status": 0, "headers": []}

            def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                answer["status"], answer["headers"] = int(status[:3]), headers
                return start_response(status, headers, *rest)

            body = self._range_of_object(environ, start)
            if body is None:
                body = application(environ, start)
            sent = 0
            try:
                for piece in body:
                    sent += len(piece)
                    yield piece
            finally:
                if hasattr(body, "close"):
                    body.close()
                start_byte, stop_byte = _content_range(answer["headers"])
                self.log.add(
                    Request(
                        environ["REQUEST_METHOD"],
                        environ["PATH_INFO"],
                        start_byte,
                        stop_byte,
                        answer["status"],
                        sent,
                        began,
                        time.monotonic(),
                    )
                )

        return counted

    def _range_of_object(
        self, environ: dict[str, Any], start: StartResponse
    ) -> Iterable[bytes] | None:
        """Answer a range of an object that exists, which moto would copy as a whole each time."""
        if environ["REQUEST_METHOD"] != "GET" or "HTTP_RANGE" not in environ:
            return None
        bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
        found = getattr(self._backend().buckets.get(bucket), "keys", {}).get(key)
        asked = _asked_range(environ["HTTP_RANGE"], found.size) if found else None
        if found is None or asked is None or asked[0] >= found.size:
            return None
        with found.lock:
            buffer = found._value_buffer  # noqa: SLF001
            buffer.seek(asked[0])
            data = buffer.read(asked[1] - asked[0])
            etag = found.etag  # reads the same buffer when it is not known yet
        start(
            "206 Partial Content",
            [
                ("Content-Length", str(len(data))),
                ("Content-Range", f"bytes {asked[0]}-{asked[1] - 1}/{found.size}"),
                ("ETag", etag),
                ("Accept-Ranges", "bytes"),
            ],
        )
        return [data]


def _content_range(headers: list[tuple[str, str]]) -> tuple[int | None, int | None]:
    for name, value in headers:
        if name.lower() == "content-range" and value.startswith("bytes ") and "*" not in value:
            first, last = value[6:].partition("/")[0].split("-")
            return int(first), int(last) + 1
    return None, None
