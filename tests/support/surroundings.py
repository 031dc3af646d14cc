"""Compare folders before and after: names, kinds, sizes, times of change and digests of all that is in them."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Snapshot:
    """Hold what a folder contains, by relative path."""

    entries: dict[str, tuple]

    def changes(self, later):
        """Return what is different later, in words."""
        keys = sorted(self.entries.keys() | later.entries.keys())
        return [
            f"{key}: {self.entries.get(key, 'missing')} became {later.entries.get(key, 'missing')}"
            for key in keys
            if self.entries.get(key) != later.entries.get(key)
        ]


def snapshot(root, without=None):
    """Return what a folder contains, apart from the folder ``without``."""
    entries = {}
    for place, folders, names in os.walk(root):
        folder = Path(place)
        folders[:] = sorted(name for name in folders if folder / name != without)
        entries |= {str((folder / name).relative_to(root)): ("folder",) for name in folders}
        for name in names:
            path = folder / name
            status = path.lstat()
            link = path.is_symlink()
            content = str(path.readlink()).encode() if link else path.read_bytes() if path.is_file() else b""
            kind = "link" if link else "file"
            entries[str(path.relative_to(root))] = (
                kind, status.st_size, status.st_mtime_ns, hashlib.blake2b(content, digest_size=8).hexdigest(),
            )  # fmt: skip
    return Snapshot(entries)
