"""What the tests with guests have in common."""

import hashlib
from pathlib import Path

ACTIVATE = """
dm create snap --table "0 {sectors} snapshot /dev/vda /dev/vdb P {chunk}"
dm create org --table "0 {sectors} snapshot-origin /dev/vda"
dm mknodes
"""
"""The snapshot first: an origin that is active without one would not split its writes."""

WRITES = """
dd if=/dev/urandom of=/dev/mapper/org bs=4k seek=1000 count=600 conv=notrunc 2>/dev/null
dd if=/dev/urandom of=/dev/mapper/org bs=512 seek=1603 count=1 conv=notrunc 2>/dev/null
dd if=/dev/urandom of=/dev/mapper/snap bs=64k seek=100 count=30 conv=notrunc 2>/dev/null
dd if=/dev/urandom of=/dev/mapper/snap bs=512 seek=1700 count=9 conv=notrunc 2>/dev/null
sync
"""
"""In a guest: whole chunks and parts of some, of an origin and a snapshot of 16 MiB or more."""


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
