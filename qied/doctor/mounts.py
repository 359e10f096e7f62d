"""Which file system a folder lies on, from the list of mounts that Linux keeps; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_REMOTE = {
    *("9p", "drvfs", "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "beegfs", "gpfs", "ncpfs"),
    *("vboxsf", "prl_fs", "fuse.sshfs", "fuse.glusterfs", "fuse.vmhgfs-fuse", "fuse.s3fs", "fuse.rclone"),
}
"""Types whose files another machine keeps, or the system around this one."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A file system in its place; ``kind`` is its type, such as ``ext4``."""

    place: PurePosixPath
    kind: str

    @property
    def remote(self) -> bool:
        """Whether its files are kept elsewhere, so that locks and shared memory of files may not work."""
        return self.kind in _REMOTE


def mount_of(folder: PurePosixPath, mounts: str) -> Mount | None:
    """The mount that an absolute folder lies on; ``mounts`` is what /proc/mounts holds. None where none is listed."""
    found = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = PurePosixPath(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[1]))
        # Of mounts on one place the last one counts: it hides those before it.
        if folder.is_relative_to(place) and (found is None or place.is_relative_to(found.place)):
            found = Mount(place, fields[2])
    return found
