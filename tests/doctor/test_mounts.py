"""Folders are found on their file systems, as Linux and WSL2 list them."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from qied.doctor.mounts import mount_of

WSL2 = r"""none /mnt/wsl tmpfs rw,relatime 0 0
drivers /usr/lib/wsl/drivers 9p ro,dirsync,nosuid,nodev,noatime,aname=drivers;fmask=222,mmap,access=client,trans=fd 0 0
/dev/sdc / ext4 rw,relatime,discard,errors=remount-ro,data=ordered 0 0
none /mnt/wslg tmpfs rw,relatime 0 0
rootfs /init rootfs ro,size=8132336k,nr_inodes=2033084 0 0
none /dev devtmpfs rw,nosuid,relatime,size=8132336k,nr_inodes=2033084,mode=755 0 0
proc /proc proc rw,nosuid,nodev,noexec,noatime 0 0
C:\134 /mnt/c 9p rw,dirsync,noatime,aname=drvfs;path=C:\;uid=1000;gid=1000;symlinkroot=/mnt/,mmap,access=client 0 0
snapfuse /snap/core22/1380 fuse.snapfuse ro,nodev,relatime,user_id=0,group_id=0,allow_other 0 0
"""
WSL1 = r"""rootfs / wslfs rw,noatime 0 0
C:\134 /mnt/c drvfs rw,noatime,uid=1000,gid=1000,case=off 0 0
"""
SERVER = r"""/dev/nvme0n1p2 / ext4 rw,relatime 0 0
/dev/nvme0n1p2 /home ext4 rw,relatime 0 0
filer:/export/home /home nfs4 rw,relatime,vers=4.2,proto=tcp 0 0
/dev/sdb1 /mnt/my\040disk xfs rw,relatime 0 0
//nas/share /mnt/my\040disk/nas cifs rw,relatime,vers=3.1.1 0 0
ann@far:/data /data/far fuse.sshfs rw,nosuid,nodev,relatime,user_id=1000 0 0
"""


@pytest.mark.parametrize(
    ("mounts", "folder", "place", "kind", "remote"),
    [
        (WSL2, "/home/ann/.local/state/qied", "/", "ext4", False),
        (WSL2, "/mnt/c/Users/ann/qied", "/mnt/c", "9p", True),
        (WSL2, "/mnt/cache", "/", "ext4", False),
        (WSL1, "/mnt/c/Users/ann/qied", "/mnt/c", "drvfs", True),
        (SERVER, "/home/ann/.local/state/qied", "/home", "nfs4", True),
        (SERVER, "/var/lib/qied", "/", "ext4", False),
        (SERVER, "/mnt/my disk/qied", "/mnt/my disk", "xfs", False),
        (SERVER, "/mnt/my disk/nas/qied", "/mnt/my disk/nas", "cifs", True),
        (SERVER, "/data/far", "/data/far", "fuse.sshfs", True),
    ],
)
def test_a_folder_lies_on_the_innermost_mount_around_it(mounts, folder, place, kind, remote):
    found = mount_of(PurePosixPath(folder), mounts)
    assert found is not None
    assert (str(found.place), found.kind, found.remote) == (place, kind, remote)


@pytest.mark.parametrize("mounts", ["", "no mounts", "/dev/sda1 /elsewhere ext4 rw 0 0"])
def test_where_nothing_is_listed_nothing_is_known(mounts):
    assert mount_of(PurePosixPath("/home/ann"), mounts) is None
