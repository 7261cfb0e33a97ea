"""The host's catalog: what it must still know after a restart, in SQLite.

    lun            id, record          every LUN ever seen here; the record is the right to it
    access_path    volume, name        where a volume is mounted when it arrives
    device_object  snapshot, number, lun, offset, length, properties, released
    exposure       snapshot, name      copies mounted at letters and folders
    import_failed  lun, snapshot_set   LUNs that wait for the clean-up verb
    counter        name, value         the last number given to a device object

Each method is one transaction. Calls are quick and synchronous; the file lies in the host's
state directory, never on a volume that the host may freeze. Refuses to know what is mounted.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from uuid import UUID

import msgspec

from vssemu.vss.errors import Unexpected
from vssemu.vss.identity import LunId, SnapshotId, SnapshotSetId
from vssemu.vss.lun import Extent, LunInformation

VERSION = 1

_SCHEMA = """
CREATE TABLE lun (id TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE access_path (
    volume TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (volume, name)
) STRICT;
CREATE TABLE device_object (
    snapshot TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, lun TEXT NOT NULL,
    "offset" INTEGER NOT NULL, length INTEGER NOT NULL, properties TEXT NOT NULL,
    released INTEGER NOT NULL
) STRICT;
CREATE TABLE exposure (snapshot TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE import_failed (lun TEXT PRIMARY KEY, snapshot_set TEXT NOT NULL) STRICT;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO counter VALUES ('device_object', 0);
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectRow:
    """A device object as the catalog has it.

    extent: of the copied partition on the LUN. released: broken out of its set.
    """

    snapshot_id: SnapshotId
    number: int
    lun: LunId
    extent: Extent
    properties_json: str
    released: bool


class Catalog:
    """The open database. Raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        """Open or make the database. Raises Unexpected when a newer version wrote it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # trio runs this in one thread, tests in another; never in two at once.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            self._db.close()
            raise Unexpected(
                f"{path}: version {version} of the catalog, this program knows {VERSION}",
                hint="install the program that wrote it",
                item=str(path),
            )

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()

    def remember_lun(self, lun: LunId, record: LunInformation) -> None:
        """Keep the record of a LUN, in place of an older one."""
        text = msgspec.json.encode(record)
        self._db.execute("INSERT OR REPLACE INTO lun VALUES (?, ?)", (lun, text))

    def forget_lun(self, lun: LunId) -> None:
        """Drop a LUN's record and its mark of a failed import."""
        with self._transaction():
            self._db.execute("DELETE FROM lun WHERE id = ?", (lun,))
            self._db.execute("DELETE FROM import_failed WHERE lun = ?", (lun,))

    def lun_record(self, lun: LunId) -> LunInformation | None:
        """Return the record of a LUN that was seen here, also one that has gone."""
        row = self._db.execute("SELECT record FROM lun WHERE id = ?", (lun,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=LunInformation)

    def add_access_path(self, volume: UUID, name: str) -> None:
        """Remember where a volume is to be mounted; the place is nobody else's from now on."""
        with self._transaction():
            self._db.execute("DELETE FROM access_path WHERE name = ?", (name,))
            self._db.execute("INSERT INTO access_path VALUES (?, ?)", (str(volume), name))

    def remove_access_path(self, name: str) -> None:
        """Forget a place."""
        self._db.execute("DELETE FROM access_path WHERE name = ?", (name,))

    def access_paths(self, volume: UUID) -> list[str]:
        """Return the places of a volume, in the order in which they were given."""
        query = "SELECT name FROM access_path WHERE volume = ? ORDER BY rowid"
        return [name for (name,) in self._db.execute(query, (str(volume),))]

    def access_path_owner(self, name: str) -> UUID | None:
        """Return the volume that is mounted at a place when it is here."""
        query = "SELECT volume FROM access_path WHERE name = ?"
        row = self._db.execute(query, (name,)).fetchone()
        return None if row is None else UUID(row[0])

    def next_number(self) -> int:
        """Return the number of a new device object; no number is ever given twice."""
        query = "UPDATE counter SET value = value + 1 WHERE name = ? RETURNING value"
        number: int = self._db.execute(query, ("device_object",)).fetchone()[0]
        return number

    def put_object(self, row: ObjectRow) -> None:
        """Keep a device object, in place of an older row of the same copy."""
        self._db.execute(
            "INSERT OR REPLACE INTO device_object VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                str(row.snapshot_id),
                row.number,
                row.lun,
                row.extent.offset,
                row.extent.length,
                row.properties_json,
                int(row.released),
            ),
        )

    def remove_object(self, snapshot_id: SnapshotId) -> None:
        """Forget a device object and its exposure."""
        with self._transaction():
            key = (str(snapshot_id),)
            self._db.execute("DELETE FROM device_object WHERE snapshot = ?", key)
            self._db.execute("DELETE FROM exposure WHERE snapshot = ?", key)

    def objects(self) -> list[ObjectRow]:
        """Return all device objects by number."""
        query = 'SELECT snapshot, number, lun, "offset", length, properties, released'
        rows = self._db.execute(f"{query} FROM device_object ORDER BY number")
        return [
            ObjectRow(
                snapshot_id=SnapshotId(UUID(snapshot)),
                number=number,
                lun=LunId(lun),
                extent=Extent(offset=offset, length=length),
                properties_json=properties,
                released=bool(released),
            )
            for snapshot, number, lun, offset, length, properties, released in rows
        ]

    def put_exposure(self, snapshot_id: SnapshotId, name: str) -> None:
        """Keep that a copy is exposed at a place."""
        row = (str(snapshot_id), name)
        self._db.execute("INSERT OR REPLACE INTO exposure VALUES (?, ?)", row)

    def remove_exposure(self, snapshot_id: SnapshotId) -> None:
        """Forget an exposure."""
        self._db.execute("DELETE FROM exposure WHERE snapshot = ?", (str(snapshot_id),))

    def exposures(self) -> dict[SnapshotId, str]:
        """Return where copies are exposed."""
        rows = self._db.execute("SELECT snapshot, name FROM exposure")
        return {SnapshotId(UUID(snapshot)): name for snapshot, name in rows}

    def mark_import_failed(self, lun: LunId, set_id: SnapshotSetId) -> None:
        """List a LUN under a set whose import failed."""
        row = (lun, str(set_id))
        self._db.execute("INSERT OR REPLACE INTO import_failed VALUES (?, ?)", row)

    def import_failed(self) -> dict[LunId, SnapshotSetId]:
        """Return the LUNs of failed imports and their sets."""
        rows = self._db.execute("SELECT lun, snapshot_set FROM import_failed")
        return {LunId(lun): SnapshotSetId(UUID(set_id)) for lun, set_id in rows}

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    """A block that happens whole or not at all."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
