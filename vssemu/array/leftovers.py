"""What an array that does not run any more gave names to: read from its files alone."""

import contextlib
import sqlite3
from pathlib import Path

from vssemu.array.schema import FILE_NAME
from vssemu.vss.identity import LunId


def lun_ids(state: Path) -> list[LunId]:
    """Return the ids of all LUNs that the journal in `state` knows or knew.

    Empty when there is no journal or it cannot be read: then nothing was made, or nothing
    can be known to be ours.
    """
    path = state / FILE_NAME
    if not path.exists():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as journal:
            rows = journal.execute(
                "SELECT id FROM luns UNION SELECT id FROM retired UNION SELECT lun FROM operations"
            )
            return [LunId(row[0]) for row in rows]
    except sqlite3.Error:
        return []


def engine(pool: Path) -> str | None:
    """Return the name of the engine that a pool is of; None for one that is not made yet."""
    try:
        identity, _, rest = (pool / "owner").read_text(encoding="ascii").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return (rest.strip() or "reflink") if identity else None
