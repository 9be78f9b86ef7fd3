"""What is told of a mount by what the system says of it."""

from __future__ import annotations

import struct
import sys
import threading
from pathlib import Path

import pytest

from xarray_nd2.io import choose, mounts
from xarray_nd2.io.choose import connect
from xarray_nd2.io.local import LocalFile
from xarray_nd2.io.mounted import MountedFile
from xarray_nd2.io.mounts import Mount, find_mount, mount_of, parse_statfs

LABORATORY = r"""
21 27 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
27 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
31 27 0:27 / /run rw,nosuid,nodev shared:5 - tmpfs tmpfs rw,size=1626984k,mode=755
40 27 8:1 / /data rw,relatime shared:29 - xfs /dev/sda1 rw,attr2,inode64,noquota
41 27 0:45 / /home rw,relatime shared:30 - autofs systemd-1 rw,fd=39,pgrp=1,timeout=0,direct
44 41 0:48 / /home rw,relatime shared:31 - btrfs /dev/sdb1 rw,space_cache=v2,subvol=/home
52 27 0:53 / /mnt/nas rw,relatime shared:33 - nfs4 nas:/export rw,vers=4.2,rsize=1048576,hard
53 52 0:54 / /mnt/nas/day\0401 ro,relatime shared:34 - cifs //nas/day\0401 ro,vers=3.1.1,soft
54 27 0:55 / /mnt/ssh rw,nosuid,nodev,relatime shared:35 - fuse.sshfs me@host: rw,user_id=1000
55 27 8:17 / /media/stick rw,nosuid shared:36 - fuseblk /dev/sdc1 rw,user_id=0,group_id=0
56 27 0:57 / /mnt/new rw,relatime - notyetknownfs new rw
57 27 0:58 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\;
58 40 259:2 /var/export /data/export rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
"""
CONTAINER = """
610 480 0:67 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A:/B,upperdir=/C
611 610 0:70 / /proc rw,nosuid - proc proc rw
620 610 0:44 /share /data rw,relatime master:9 - virtiofs kataShared rw
621 610 0:66 / /dev/shm rw,nosuid - tmpfs shm rw,size=65536k
"""


@pytest.mark.parametrize(
    ("path", "point", "file_system", "is_share"),
    [
        ("/srv/run.nd2", "/", "ext4", False),
        ("/data/run.nd2", "/data", "xfs", False),
        ("/data2/run.nd2", "/", "ext4", False),
        ("/data/export/run.nd2", "/data/export", "ext4", False),
        ("/home/me/run.nd2", "/home", "btrfs", False),
        ("/run/run.nd2", "/run", "tmpfs", False),
        ("/media/stick/run.nd2", "/media/stick", "fuseblk", False),
        ("/mnt/nas/run.nd2", "/mnt/nas", "nfs4", True),
        ("/mnt/nas/day 1/run.nd2", "/mnt/nas/day 1", "cifs", True),
        ("/mnt/nas/day 12/run.nd2", "/mnt/nas", "nfs4", True),
        ("/mnt/ssh/run.nd2", "/mnt/ssh", "fuse.sshfs", True),
        ("/mnt/new/run.nd2", "/mnt/new", "notyetknownfs", True),
        ("/mnt/c/run.nd2", "/mnt/c", "9p", True),
    ],
)
def test_mountinfo(path: str, point: str, file_system: str, is_share: bool) -> None:
    mount = find_mount(path, LABORATORY)
    assert mount == (point, file_system)
    assert mount.is_share == is_share


def test_mountinfo_of_a_container() -> None:
    assert find_mount("/run.nd2", CONTAINER) == ("/", "overlay")
    assert not find_mount("/run.nd2", CONTAINER).is_share
    assert find_mount("/data/run.nd2", CONTAINER).is_share


@pytest.mark.parametrize("text", ["", "\n", "27 1 259:2 / / rw", "a - b", " - "])
def test_mountinfo_that_tells_nothing(text: str) -> None:
    assert find_mount("/run.nd2", text).is_share


@pytest.mark.parametrize(
    ("file_system", "keeps"),
    [("ext4", True), ("fuseblk", True), ("nfs", True), ("cifs", True), ("fuse.rclone", False)],
)
def test_whose_inodes_last(file_system: str, keeps: bool) -> None:
    assert Mount("/", file_system).keeps_inodes == keeps
    assert not mounts.UNKNOWN_MOUNT.keeps_inodes


@pytest.mark.parametrize(("name", "is_share"), [("apfs", False), ("smbfs", True), ("nfs", True)])
def test_statfs_of_macos(name: str, is_share: bool) -> None:
    numbers = struct.pack("=Ii5Q2iIIII", 4096, 65536, 1, 2, 3, 4, 5, 6, 7, 501, 24, 0x1000, 0)
    names = struct.pack("16s1024s1024s", name.encode(), b"/Volumes/day 1", b"//me@nas/day")
    mount = parse_statfs(numbers + names + bytes(32))
    assert mount == ("/Volumes/day 1", name)
    assert mount.is_share == is_share


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux says of itself")
def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc/self/status")
    assert mount_of(str(tmp_path / "link")) == ("/proc", "proc")
    with pytest.raises(FileNotFoundError):
        mount_of(str(tmp_path / "none"))


def test_a_folder_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But again where no file was found, for a share may be mounted meanwhile."""
    path = tmp_path / "run.nd2"
    looked = []

    def look(at: str) -> Mount:
        looked.append(at)
        return Mount("/", "nfs")

    monkeypatch.setattr(choose, "mount_of", look)
    assert isinstance(connect(str(path), {}), LocalFile)
    assert looked == []
    path.touch()
    kept = connect(str(path), {})
    assert isinstance(kept, MountedFile)
    assert connect(str(path), {}) is kept
    (tmp_path / "other.nd2").touch()
    assert isinstance(connect(str(tmp_path / "other.nd2"), {}), MountedFile)
    assert looked == [str(tmp_path)]


def test_links_from_a_disk_to_a_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "run.nd2").touch()
    (tmp_path / "link.nd2").symlink_to(tmp_path / "share" / "run.nd2")
    (tmp_path / "run.nd2").touch()

    def look(at: str) -> Mount:
        kind = "nfs" if "share" in Path(at).resolve().parts else "ext4"
        return Mount("/", kind)

    monkeypatch.setattr(choose, "mount_of", look)
    for _ in range(2):
        assert isinstance(connect(str(tmp_path / "run.nd2"), {}), LocalFile)
        assert isinstance(connect(str(tmp_path / "link.nd2"), {}), MountedFile)
        assert isinstance(connect(str(tmp_path / "share" / "run.nd2"), {}), MountedFile)


def test_what_does_not_answer_is_taken_for_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, answered = str(tmp_path / "run.nd2"), threading.Event()
    (tmp_path / "run.nd2").touch()

    def look(_: str) -> Mount:
        answered.wait(60)
        return Mount("/", "ext4")

    monkeypatch.setattr(choose, "mount_of", look)
    monkeypatch.setattr(choose, "MAX_MOUNT_LOOK_SECONDS", 0.05)
    assert isinstance(connect(path, {}), MountedFile)
    answered.set()
    monkeypatch.setattr(choose, "MAX_MOUNT_LOOK_SECONDS", 60)
    assert isinstance(connect(path, {}), LocalFile)
