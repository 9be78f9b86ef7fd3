"""The gcp-storage-emulator, for Google Cloud Storage."""

from __future__ import annotations

import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from .process import free_ports, listening, program, running
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

# Its own server answers one request after the other, each by a connection of its own. And it lacks
# what the real store does: telling the generation of an object with its bytes, and refusing ranges
# of an empty one.
_EMULATOR_SCRIPT = """
import http.server, sys

class Threads(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True
http.server.HTTPServer = Threads
http.server.BaseHTTPRequestHandler.protocol_version = "HTTP/1.1"

from gcp_storage_emulator.handlers import objects
emulated = objects.download
def download(request, response, storage, *args, **kwargs):
    emulated(request, response, storage, *args, **kwargs)
    if response.status < 300:
        where = request.params["bucket_name"], request.params["object_id"]
        response["X-Goog-Generation"] = storage.get_file_obj(*where)["generation"]
        if request.get_header("range") and not storage.get_file(*where):
            response.status = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
objects.download = download

from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True).run()
"""


@contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """Run the emulator with one bucket."""
    emulator = Path(program("gcp-storage-emulator", "pip install gcp-storage-emulator"))
    python = emulator.resolve().with_name("python")
    folder.mkdir(parents=True)
    [port] = free_ports(1)

    def store(port: int) -> Store:
        base = f"http://127.0.0.1:{port}"

        def put(name: str, data: bytes) -> None:
            _upload(f"{base}/upload/storage/v1/b/bucket/o", name, data)

        options = {"endpoint_url": base, "token": "anon", "project": "p"}
        return Store(lambda name: f"gs://bucket/{name}", options, put, port, store)

    command = [python, "-c", _EMULATOR_SCRIPT, str(port)]
    with running(command, folder / "log", lambda: listening(port)):
        _post_request(
            f"http://127.0.0.1:{port}/storage/v1/b?project=p",
            b'{"name": "bucket"}',
            "application/json",
        )
        yield store(port)


def _upload(url: str, name: str, data: bytes) -> None:
    if data:
        _post_request(
            f"{url}?uploadType=media&name={quote(name, '')}", data, "application/octet-stream"
        )
        return
    # An empty object in the one way in which the emulator takes it.
    parts = f'--x\r\nContent-Type: application/json\r\n\r\n{{"name": "{name}"}}\r\n--x\r\n'
    body = f"{parts}Content-Type: application/octet-stream\r\n\r\n\r\n--x--\r\n".encode()
    _post_request(f"{url}?uploadType=multipart", body, "multipart/related; boundary=x")


def _post_request(url: str, data: bytes, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as response:
        response.read()
