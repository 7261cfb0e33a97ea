"""The tables of the journal, and how an older journal becomes a present one.

`PRAGMA user_version` is the number of the last step taken. A journal from the future is
refused.
"""

import sqlite3
from typing import Final

FILE_NAME: Final = "journal.sqlite"

STEPS: Final = (
    """
    CREATE TABLE array (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        identity TEXT NOT NULL,
        luns_made INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE initiators (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    -- owner names no row: a set outlives an initiator that was expelled.
    CREATE TABLE sets (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        boot TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE luns (
        id TEXT PRIMARY KEY,
        serial TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL CHECK (size > 0),
        kind TEXT NOT NULL,
        engine TEXT NOT NULL,
        state TEXT NOT NULL,
        origin TEXT REFERENCES luns (id),
        set_id TEXT REFERENCES sets (id),
        position INTEGER,
        claimed_by TEXT,
        UNIQUE (set_id, position),
        UNIQUE (set_id, origin)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX luns_by_origin ON luns (origin);
    CREATE TABLE masks (
        lun TEXT NOT NULL REFERENCES luns (id) ON DELETE CASCADE,
        initiator TEXT NOT NULL REFERENCES initiators (name),
        PRIMARY KEY (lun, initiator)
    ) STRICT, WITHOUT ROWID;
    -- Ids that were given and are gone: they are not given again, and who deletes one a
    -- second time is told that all is well.
    CREATE TABLE retired (id TEXT PRIMARY KEY, serial TEXT NOT NULL) STRICT, WITHOUT ROWID;
    -- lun names no row: a LUN that is being created has none yet.
    CREATE TABLE operations (
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        lun TEXT NOT NULL,
        initiator TEXT,
        size INTEGER
    ) STRICT;
    CREATE TABLE grants (device INTEGER PRIMARY KEY, initiator TEXT NOT NULL) STRICT;
    """,
    # Bits 60 to 63 of a file system that has no partition table to keep them.
    """
    ALTER TABLE luns ADD COLUMN attributes INTEGER NOT NULL DEFAULT 0
        CHECK (attributes BETWEEN 0 AND 15);
    """,
    # Sets that end with their requester go first when room gets scarce.
    """
    ALTER TABLE sets ADD COLUMN auto_release INTEGER NOT NULL DEFAULT 0
        CHECK (auto_release IN (0, 1));
    """,
)


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Take the steps that the journal lacks, each whole or not at all.

    Raises ValueError for a journal of a later version than this program's.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise ValueError(f"version {version} is later than {len(STEPS)}")
    for number, step in enumerate(STEPS[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;"
        )
