"""OpenStack Swift, a real object store, by its S3 interface."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .process import free_ports, listening, program, run, running
from .store import Missing, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUCKET_SECRET = "hush-of-the-bucket"
_SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = x
swift_hash_path_prefix = y
[storage-policy:0]
name = gold
default = yes
"""
_COMMON_CONF = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {conf}
devices = {devices}
mount_check = false
log_address = /nonexistent
fallocate_reserve = 0
"""
_NODE_CONF = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY_CONF = """
[pipeline:main]
pipeline = catch_errors cache s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{nobody}
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""

# What swift-ring-builder does, without starting it nine times.
_BUILD_RINGS_SCRIPT = """
import sys
from swift.common.ring import RingBuilder
conf, *ports = sys.argv[1:]
for kind, port in zip(("account", "container", "object"), ports):
    ring = RingBuilder(4, 1, 0)
    ring.add_dev(dict(region=1, zone=1, weight=1, ip="127.0.0.1", port=int(port), device="disk",
                      replication_ip="127.0.0.1", replication_port=int(port)))
    ring.rebalance()
    ring.get_ring().save(f"{conf}/{kind}.ring.gz")
"""


@contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """Run the four servers of a small Swift, with one bucket."""
    get_it = "pip install swift"
    kinds = ("account", "container", "object", "proxy")
    programs = {kind: program(f"swift-{kind}-server", get_it) for kind in kinds}
    python = Path(programs["proxy"]).resolve().with_name("python")
    conf, devices = folder / "conf", folder / "devices"
    conf.mkdir(parents=True)
    (devices / "disk").mkdir(parents=True)
    _require_extended_attributes(devices)
    (conf / "swift.conf").write_text(_SWIFT_CONF)
    *ports, nobody = free_ports(5)
    user = Path("~").expanduser().owner()
    for kind, port in zip(kinds, ports, strict=True):
        text = _COMMON_CONF.format(port=port, user=user, conf=conf, devices=devices)
        text += (
            _PROXY_CONF.format(nobody=nobody, secret=_BUCKET_SECRET)
            if kind == "proxy"
            else _NODE_CONF.format(kind=kind)
        )
        (conf / f"{kind}-server.conf").write_text(text)
    run(python, "-c", _BUILD_RINGS_SCRIPT, conf, *map(str, ports[:3]))

    def store(port: int) -> Store:
        options = {
            "key": "test:tester",
            "secret": _BUCKET_SECRET,
            "endpoint_url": f"http://127.0.0.1:{port}",
        }

        def put(name: str, data: bytes) -> None:
            _filesystem(options).pipe_file(f"bucket/{name}", data)

        return Store(
            lambda name: f"s3://bucket/{name}", options, put, port, store, (_BUCKET_SECRET,)
        )

    def at_once() -> bool:
        return True

    def all_listening() -> bool:
        return all(map(listening, ports))

    with ExitStack() as stack:
        for kind in kinds:
            command = [programs[kind], conf / f"{kind}-server.conf"]
            # All start at once; the last one is waited for together with the others.
            ready = all_listening if kind == kinds[-1] else at_once
            stack.enter_context(running(command, folder / f"{kind}.log", ready))
        swift = store(ports[-1])
        _filesystem(dict(swift.options)).mkdir("bucket")
        yield swift


def _filesystem(options: dict[str, Any]) -> Any:
    import s3fs

    return s3fs.S3FileSystem(**options, skip_instance_cache=True)


def _require_extended_attributes(folder: Path) -> None:
    """Swift keeps what it knows of an object in extended attributes."""
    try:
        os.setxattr(folder, "user.test", b"1")
    except OSError as error:
        raise Missing(f"the disk of {folder} has no extended attributes") from error
