"""Samba: a Windows share."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .process import free_ports, listening, program, run, running
from .store import Missing, Store, put_into

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHARE_PASSWORD = "hush-of-the-share"
_SMB_CONF = """
[global]
 smb ports = {port}
 interfaces = 127.0.0.1/8
 bind interfaces only = yes
 workgroup = WG
 server role = standalone server
 security = user
 disable netbios = yes
 load printers = no
 printing = bsd
 printcap name = /dev/null
 disable spoolss = yes
 lock directory = {dir}/lock
 state directory = {dir}/state
 cache directory = {dir}/cache
 private dir = {dir}/private
 pid directory = {dir}/run
 ncalrpc dir = {dir}/run/ncalrpc
 log file = {dir}/log/%m.log
 passdb backend = tdbsam:{dir}/private/passdb.tdb
[share]
 path = {root}
 read only = no
 force user = root
"""


@contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """Run Samba with one share."""
    get_it = "apt-get install samba"
    smbd, smbpasswd = program("smbd", get_it), program("smbpasswd", get_it)
    if os.geteuid() != 0:
        raise Missing("smbd only runs as root")
    root, state, conf = folder / "files", folder / "state", folder / "smb.conf"
    root.mkdir(parents=True)
    for name in ("lock", "state", "cache", "private", "run", "log"):
        (state / name).mkdir(parents=True)
    [port] = free_ports(1)
    conf.write_text(_SMB_CONF.format(port=port, dir=state, root=root))
    twice = f"{_SHARE_PASSWORD}\n{_SHARE_PASSWORD}\n"
    run(smbpasswd, "-c", conf, "-s", "-a", "root", text=twice)

    def store(port: int) -> Store:
        return Store(
            lambda name: f"smb://127.0.0.1:{port}/share/{name}",
            {"username": "root", "password": _SHARE_PASSWORD},
            put_into(root),
            port,
            store,
            (_SHARE_PASSWORD,),
        )

    arguments = [smbd, "-F", "--no-process-group", "-s", conf]
    with running(arguments, folder / "log", lambda: listening(port)):
        yield store(port)
