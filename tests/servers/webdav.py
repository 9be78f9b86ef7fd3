"""Rclone: files by WebDAV."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .process import free_ports, listening, program, running
from .store import Store, put_into

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER_PASSWORD = "hush-of-the-folder"


@contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """Run rclone's WebDAV server."""
    rclone = program("rclone", "apt-get install rclone")
    root = folder / "files"
    root.mkdir(parents=True)
    [port] = free_ports(1)

    def store(port: int) -> Store:
        return Store(
            lambda name: f"webdav://{name}",
            {"base_url": f"http://127.0.0.1:{port}", "auth": ("user", _FOLDER_PASSWORD)},
            put_into(root),
            port,
            store,
            (_FOLDER_PASSWORD,),
        )

    command = [rclone, "serve", "webdav", root, "--addr", f"127.0.0.1:{port}"]
    # Without its cache of directories, files that are written beside it are seen at once.
    options = ["--config", "/dev/null", "--dir-cache-time", "0s", "--user", "user"]
    secret = {"RCLONE_PASS": _FOLDER_PASSWORD}
    with running([*command, *options], folder / "log", lambda: listening(port), secret):
        yield store(port)
