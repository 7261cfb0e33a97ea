"""What the tests with guests have in common."""

import hashlib
from pathlib import Path

ACTIVATE = """
dm create snap --table "0 {sectors} snapshot /dev/vda /dev/vdb P {chunk}"
dm create org --table "0 {sectors} snapshot-origin /dev/vda"
dm mknodes
"""
"""The snapshot first: an origin that is active without one would not split its writes."""


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
