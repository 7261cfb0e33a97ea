"""What an array that does not run any more gave names to: read from its journal alone."""

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
