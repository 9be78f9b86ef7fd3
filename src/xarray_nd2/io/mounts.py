"""Which file system a path is on, and whether that is a disk of this machine.

A file on a disk is best mapped into memory. On a mounted share a map would be read page by page, and
the process would end (``SIGBUS``) when the server fails for a moment.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# By their names on Linux and macOS. What is not here is taken for a share.
_DISK_FILE_SYSTEMS: Final = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "nilfs2"),
        *("reiserfs", "ufs", "apfs", "hfs", "hfsplus", "vfat", "msdos", "exfat", "ntfs", "ntfs3"),
        *("iso9660", "cd9660", "udf", "squashfs", "erofs"),
        *("tmpfs", "ramfs", "rootfs", "devtmpfs", "overlay", "aufs"),
        "fuseblk",  # a disk that is read by a program, such as ntfs-3g
    }
)
# Their names begin so.
_NUMBERING_FILE_SYSTEMS: Final = ("fuse", "macfuse", "osxfuse", "unknown")
_MOUNTINFO_PATH: Final = Path("/proc/self/mountinfo")
_OCTAL_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
# Of `struct statfs` of macOS with inodes of 64 bits, in bytes.
_STATFS_BYTES: Final = 2168
_STATFS_NAME_AT: Final = 72  # f_fstypename, f_mntonname
_STATFS_NAME_BYTES: Final = (16, 1024)
_WINDOWS_DISK_TYPES: Final = frozenset({2, 3, 5, 6})  # removable, fixed, CD, in memory


class Mount(NamedTuple):
    """A mounted file system.

    Attributes
    ----------
    point : str
        The folder where it is mounted.
    file_system : str
        Its type, or "unknown".
    """

    point: str
    file_system: str

    @property
    def is_share(self) -> bool:
        """Whether it may be on another machine."""
        return self.file_system not in _DISK_FILE_SYSTEMS

    @property
    def keeps_inodes(self) -> bool:
        """Whether a file has the same inode number later, and on another machine.

        Programs behind FUSE may number files in the order in which they are asked for.
        """
        return not self.is_share or not self.file_system.startswith(_NUMBERING_FILE_SYSTEMS)


UNKNOWN_MOUNT: Final = Mount("", "unknown")
DISK_MOUNT: Final = Mount("", "rootfs")


def mount_of(path: str) -> Mount:
    """The file system that a file is on, its links followed. A share may keep one waiting.

    Raises
    ------
    OSError
        There is no such file, or it cannot be reached.
    """
    real = os.path.realpath(path, strict=True)
    if sys.platform == "win32":
        root = os.path.splitdrive(real)[0] + "\\"
        kind: int = ctypes.windll.kernel32.GetDriveTypeW(root)
        return Mount(root, "ntfs" if kind in _WINDOWS_DISK_TYPES else "remote")
    if sys.platform == "darwin":
        return parse_statfs(_statfs(real))
    try:
        return find_mount(real, _MOUNTINFO_PATH.read_text("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return UNKNOWN_MOUNT


def find_mount(path: str, mountinfo: str) -> Mount:
    r"""The mount that a real path is on, by the text of ``/proc/self/mountinfo``.

    Examples
    --------
    >>> disk = "27 1 254:0 / / rw - ext4 /dev/vda rw"
    >>> share = "42 27 0:39 / /mnt/day\\0401 rw shared:3 - nfs4 host:/day rw"
    >>> find_mount("/mnt/day 1/run.nd2", f"{disk}\n{share}")
    Mount(point='/mnt/day 1', file_system='nfs4')
    """
    found = UNKNOWN_MOUNT
    for mount in _parse_mountinfo(mountinfo):
        is_above = f"{path}/".startswith(f"{mount.point.rstrip('/')}/")
        # Of several at one place the last lies on top of the others.
        if is_above and len(mount.point) >= len(found.point):
            found = mount
    return found


def _parse_mountinfo(text: str) -> Iterator[Mount]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if len(fields) >= 6 and kind:
            yield Mount(_OCTAL_ESCAPE.sub(lambda code: chr(int(code[1], 8)), fields[4]), kind)


def parse_statfs(data: bytes) -> Mount:
    """The mount that a ``struct statfs`` of macOS describes."""
    names, at = [], _STATFS_NAME_AT
    for length in _STATFS_NAME_BYTES:
        names.append(data[at : at + length].partition(b"\0")[0].decode("utf-8", "surrogateescape"))
        at += length
    return Mount(names[1], names[0])


def _statfs(path: str) -> bytes:
    system = ctypes.CDLL(None, use_errno=True)
    # On Intel the plain name is that of an older structure.
    statfs = getattr(system, "statfs$INODE64", None) or system.statfs
    data = ctypes.create_string_buffer(_STATFS_BYTES)
    if statfs(os.fsencode(path), data):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return data.raw
