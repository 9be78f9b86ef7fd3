"""Nginx: HTTP and HTTPS with connections kept open, and a folder that has no ranges."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from .process import free_ports, listening, program, running
from .store import Store, put_into

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .tls import Certificates

_NGINX_CONF = """
daemon off; {user} worker_processes 2; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log {dir}/access.log; default_type application/octet-stream; keepalive_requests 100000;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  log_format sent '$status $bytes_sent $uri';
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key};
    root {root}; autoindex on;
    location /norange/ {{ alias {root}/; max_ranges 0; access_log {dir}/norange.log sent; }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """The stores of one nginx."""

    http: Store
    https: Store
    rangeless: Store
    rangeless_log: Path
    """A line for each answer of `rangeless`: status, bytes sent, path."""


@contextmanager
def serve(folder: Path, tls: Certificates) -> Iterator[Nginx]:
    """Run nginx over a folder."""
    command = program("nginx", "apt-get install nginx-light")
    root, conf = folder / "files", folder / "conf"
    for one in (root, conf):
        one.mkdir(parents=True)
    port, tls_port = free_ports(2)
    user = "user root;" if os.geteuid() == 0 else ""
    text = _NGINX_CONF.format(user=user, dir=conf, root=root, port=port, tls_port=tls_port, tls=tls)
    (conf / "nginx.conf").write_text(text)

    def store(port: int, scheme: str = "http", under: str = "") -> Store:
        return Store(
            lambda name: f"{scheme}://127.0.0.1:{port}/{under}{quote(name)}",
            {},
            put_into(root),
            port,
            lambda other: store(other, scheme, under),
        )

    arguments = [command, "-c", conf / "nginx.conf", "-e", conf / "error.log"]
    with running(arguments, folder / "log", lambda: listening(port) and listening(tls_port)):
        yield Nginx(
            store(port),
            store(tls_port, "https"),
            store(port, under="norange/"),
            conf / "norange.log",
        )
