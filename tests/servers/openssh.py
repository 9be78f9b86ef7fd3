"""OpenSSH: files by SFTP."""

from __future__ import annotations

import getpass
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .process import free_ports, listening, program, run, running
from .store import Store, put_into

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY_PASSPHRASE = "hush-of-the-key"
_SSHD_CONF = """
ListenAddress 127.0.0.1:{port}
HostKey {dir}/host
AuthorizedKeysFile {dir}/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
"""


@contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """Run an SSH server that lets one key in."""
    sshd = program("sshd", "apt-get install openssh-server")
    keygen = program("ssh-keygen", "apt-get install openssh-client")
    root, conf = folder / "files", folder / "sshd_config"
    root.mkdir(parents=True)
    for name, passphrase in (("host", ""), ("user", _KEY_PASSPHRASE)):
        run(keygen, "-q", "-t", "ed25519", "-N", passphrase, "-f", folder / name)
    [port] = free_ports(1)
    conf.write_text(_SSHD_CONF.format(port=port, dir=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists

    def store(port: int) -> Store:
        options = {
            "port": port,
            "username": getpass.getuser(),
            "key_filename": str(folder / "user"),
            "passphrase": _KEY_PASSPHRASE,
            "look_for_keys": False,
            "allow_agent": False,
        }
        return Store(
            lambda name: f"sftp://127.0.0.1{root}/{name}",
            options,
            put_into(root),
            port,
            store,
            (_KEY_PASSPHRASE,),
        )

    with running([sshd, "-D", "-e", "-f", conf], folder / "log", lambda: listening(port)):
        yield store(port)
