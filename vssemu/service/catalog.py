"""The catalog of a host's VSS service (SQLite, `vss.db`): what must outlive the process.

    provider      registered providers: ids, type, version, command, configuration
    snapshot_set  one row a set the service answers for, with its status and its holder
    snapshot      its shadow copies: VSS_SNAPSHOT_PROP, and the LUN records as JSON
    source_flags  attribute bits to put back on source volumes after a crash

A set's row is written before anything is done for it. Refuses to decide anything, and knows
nothing of the array, which is the one truth that hosts share.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from vssemu.vss.attributes import Attribute, is_auto_release
from vssemu.vss.enums import ProviderType, SnapshotState
from vssemu.vss.errors import Unexpected
from vssemu.vss.host import GptFlags
from vssemu.vss.identity import ProviderId, SnapshotId, SnapshotSetId
from vssemu.vss.snapshot import LunMapping, ProviderProperties, SnapshotProperties

VERSION = 1

_SCHEMA = f"""
CREATE TABLE provider (
    id TEXT PRIMARY KEY, class_id TEXT NOT NULL, name TEXT NOT NULL, type INTEGER NOT NULL,
    version TEXT NOT NULL, version_id TEXT NOT NULL, command TEXT NOT NULL, config TEXT NOT NULL
) STRICT;
CREATE TABLE snapshot_set (
    id TEXT PRIMARY KEY, context INTEGER NOT NULL, status TEXT NOT NULL, holder TEXT
) STRICT;
CREATE TABLE snapshot (
    id TEXT PRIMARY KEY, set_id TEXT NOT NULL REFERENCES snapshot_set ON DELETE CASCADE,
    position INTEGER NOT NULL, snapshots_count INTEGER NOT NULL, device_object TEXT NOT NULL,
    original_volume TEXT NOT NULL, originating_machine TEXT NOT NULL,
    service_machine TEXT NOT NULL, exposed_name TEXT, exposed_path TEXT,
    provider_id TEXT NOT NULL, attributes INTEGER NOT NULL, created INTEGER NOT NULL,
    state INTEGER NOT NULL, luns TEXT NOT NULL
) STRICT;
CREATE INDEX snapshot_of_set ON snapshot (set_id, position);
CREATE TABLE source_flags (
    set_id TEXT NOT NULL, volume TEXT NOT NULL, flags TEXT NOT NULL,
    PRIMARY KEY (set_id, volume)
) STRICT;
PRAGMA user_version = {VERSION};
"""


class SetStatus(Enum):
    """How a set stands on this host.

    creating, importing: under way; found at a start, it is undone. undoing: its creation
    failed, and provider or array could not be told so yet. held: transportable, created here,
    nobody's to see, given back with its creator's session. returning: that was tried, and is
    tried again. present: its copies are on this host. breaking, masking, deleting: under way;
    found at a start, it is finished.
    """

    CREATING = "creating"
    IMPORTING = "importing"
    UNDOING = "undoing"
    HELD = "held"
    RETURNING = "returning"
    PRESENT = "present"
    BREAKING = "breaking"
    MASKING = "masking"
    DELETING = "deleting"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredProvider:
    """A registered provider. command: argument list; config: handed to OnLoad."""

    properties: ProviderProperties
    command: tuple[str, ...]
    config: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCopy:
    """A shadow copy: its properties, and which LUNs it lies on."""

    properties: SnapshotProperties
    luns: tuple[LunMapping, ...] = ()

    @property
    def id(self) -> SnapshotId:
        """The copy's id."""
        return self.properties.snapshot_id

    @property
    def is_doomed(self) -> bool:
        """True from the begin of its deletion on."""
        return self.properties.status is SnapshotState.DELETED


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSet:
    """A set with its copies, in the order of AddToSnapshotSet. holder: a session, or None."""

    set_id: SnapshotSetId
    context: int
    status: SetStatus
    holder: str | None
    copies: tuple[StoredCopy, ...]

    @property
    def is_auto_release(self) -> bool:
        """True when the set ends with the session that holds it."""
        return is_auto_release(self.context)


class Catalog:
    """The open catalog; every method is one transaction. Raises sqlite3.Error for a bad disk.

    Calls are synchronous: rows are few, the file system is never one that is held, and no
    method is called while writes are held.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the catalog. Raises Unexpected when a newer version wrote it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        elif version != VERSION:
            self._db.close()
            raise Unexpected(
                f"{path}: its version is {version}, this service knows {VERSION}",
                hint="start the service that wrote it",
                item=str(path),
            )

    def close(self) -> None:
        """Close; nothing may be called afterwards."""
        self._db.close()

    def providers(self) -> list[StoredProvider]:
        """Return the registered providers, in the order of their registration."""
        rows = self._db.execute(
            "SELECT id, class_id, name, type, version, version_id, command, config"
            " FROM provider ORDER BY rowid"
        )
        return [_provider(row) for row in rows]

    def add_provider(self, provider: StoredProvider) -> None:
        """Keep a provider. Raises sqlite3.IntegrityError when its id is there."""
        facts = provider.properties
        self._db.execute(
            "INSERT INTO provider VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                str(facts.provider_id),
                str(facts.class_id),
                facts.name,
                int(facts.type),
                facts.version,
                str(facts.version_id),
                _json(provider.command),
                _json(provider.config),
            ),
        )

    def remove_provider(self, provider_id: ProviderId) -> None:
        """Drop a provider."""
        self._db.execute("DELETE FROM provider WHERE id = ?", (str(provider_id),))

    def put_set(self, stored: StoredSet) -> None:
        """Write a set with its copies, in place of what is there under its id."""
        with self._transaction():
            self._db.execute("DELETE FROM snapshot_set WHERE id = ?", (str(stored.set_id),))
            self._db.execute(
                "INSERT INTO snapshot_set VALUES (?, ?, ?, ?)",
                (str(stored.set_id), stored.context, stored.status.value, stored.holder),
            )
            for position, copy in enumerate(stored.copies):
                self._db.execute(
                    f"INSERT INTO snapshot VALUES ({', '.join('?' * 15)})",
                    _copy_row(copy, position),
                )

    def set_status(self, set_id: SnapshotSetId, status: SetStatus) -> None:
        """Change a set's status."""
        self._db.execute(
            "UPDATE snapshot_set SET status = ? WHERE id = ?", (status.value, str(set_id))
        )

    def update_copy(self, properties: SnapshotProperties) -> None:
        """Change what of a copy's properties can change: device object, names, attributes."""
        self._db.execute(
            "UPDATE snapshot SET device_object = ?, exposed_name = ?, exposed_path = ?,"
            " attributes = ? WHERE id = ?",
            (
                properties.device_object,
                properties.exposed_name,
                properties.exposed_path,
                int(properties.attributes),
                str(properties.snapshot_id),
            ),
        )

    def mark_copy(self, snapshot_id: SnapshotId, state: SnapshotState) -> None:
        """Note that the deletion of a copy has begun (DELETED), or that it failed (CREATED)."""
        self._db.execute(
            "UPDATE snapshot SET state = ? WHERE id = ?", (int(state), str(snapshot_id))
        )

    def remove_copy(self, snapshot_id: SnapshotId) -> None:
        """Drop a copy, and its set with the last one."""
        with self._transaction():
            self._db.execute("DELETE FROM snapshot WHERE id = ?", (str(snapshot_id),))
            self._db.execute(
                "DELETE FROM snapshot_set WHERE id NOT IN (SELECT set_id FROM snapshot)"
                " AND status IN ('present', 'deleting', 'returning', 'breaking')"
            )

    def remove_set(self, set_id: SnapshotSetId) -> None:
        """Drop a set, its copies and the flags noted for it."""
        with self._transaction():
            self._db.execute("DELETE FROM source_flags WHERE set_id = ?", (str(set_id),))
            self._db.execute("DELETE FROM snapshot_set WHERE id = ?", (str(set_id),))

    def sets(self, *statuses: SetStatus) -> list[StoredSet]:
        """Return the sets with one of the statuses, oldest first; all without arguments."""
        wanted = [status.value for status in statuses or tuple(SetStatus)]
        rows = self._db.execute(
            "SELECT id, context, status, holder FROM snapshot_set"
            f" WHERE status IN ({', '.join('?' * len(wanted))}) ORDER BY rowid",
            wanted,
        ).fetchall()
        return [self._set(row) for row in rows]

    def find_set(self, set_id: SnapshotSetId) -> StoredSet | None:
        """Return a set, or None."""
        row = self._db.execute(
            "SELECT id, context, status, holder FROM snapshot_set WHERE id = ?", (str(set_id),)
        ).fetchone()
        return None if row is None else self._set(row)

    def set_of(self, snapshot_id: SnapshotId) -> StoredSet | None:
        """Return the set that a copy belongs to, or None."""
        row = self._db.execute(
            "SELECT set_id FROM snapshot WHERE id = ?", (str(snapshot_id),)
        ).fetchone()
        return None if row is None else self.find_set(SnapshotSetId(UUID(row[0])))

    def note_flags(self, set_id: SnapshotSetId, volumes: Sequence[tuple[str, GptFlags]]) -> None:
        """Note the attribute bits that volumes have before a creation changes them."""
        with self._transaction():
            # Text: the bits reach 63, beyond SQLite's signed integers.
            self._db.executemany(
                "INSERT OR REPLACE INTO source_flags VALUES (?, ?, ?)",
                [(str(set_id), name, str(int(flags))) for name, flags in volumes],
            )

    def noted_flags(self, set_id: SnapshotSetId) -> list[tuple[str, GptFlags]]:
        """Return what `note_flags` noted and `forget_flags` did not forget."""
        rows = self._db.execute(
            "SELECT volume, flags FROM source_flags WHERE set_id = ?", (str(set_id),)
        )
        return [(name, GptFlags(int(flags))) for name, flags in rows]

    def forget_flags(self, set_id: SnapshotSetId) -> None:
        """Drop the noted bits: they are on the volumes again."""
        self._db.execute("DELETE FROM source_flags WHERE set_id = ?", (str(set_id),))

    def _set(self, row: Sequence[Any]) -> StoredSet:
        rows = self._db.execute(
            "SELECT id, set_id, snapshots_count, device_object, original_volume,"
            " originating_machine, service_machine, exposed_name, exposed_path, provider_id,"
            " attributes, created, state, luns FROM snapshot WHERE set_id = ? ORDER BY position",
            (row[0],),
        )
        return StoredSet(
            set_id=SnapshotSetId(UUID(row[0])),
            context=row[1],
            status=SetStatus(row[2]),
            holder=row[3],
            copies=tuple(_copy(copy) for copy in rows),
        )

    def _transaction(self) -> AbstractContextManager[None]:
        return _Transaction(self._db)


class _Transaction(AbstractContextManager[None]):
    """A block that happens whole or not at all."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *failure: object) -> None:
        self._db.execute("COMMIT" if failure[0] is None else "ROLLBACK")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _provider(row: Sequence[Any]) -> StoredProvider:
    return StoredProvider(
        properties=ProviderProperties(
            provider_id=ProviderId(UUID(row[0])),
            class_id=UUID(row[1]),
            name=row[2],
            type=ProviderType(row[3]),
            version=row[4],
            version_id=UUID(row[5]),
        ),
        command=msgspec.json.decode(row[6], type=tuple[str, ...]),
        config=msgspec.json.decode(row[7], type=dict[str, str]),
    )


def _copy_row(copy: StoredCopy, position: int) -> tuple[Any, ...]:
    facts = copy.properties
    return (
        str(facts.snapshot_id),
        str(facts.snapshot_set_id),
        position,
        facts.snapshots_count,
        facts.device_object,
        facts.original_volume_name,
        facts.originating_machine,
        facts.service_machine,
        facts.exposed_name,
        facts.exposed_path,
        str(facts.provider_id),
        int(facts.attributes),
        facts.creation_timestamp,
        int(facts.status),
        _json(copy.luns),
    )


def _copy(row: Sequence[Any]) -> StoredCopy:
    return StoredCopy(
        properties=SnapshotProperties(
            snapshot_id=SnapshotId(UUID(row[0])),
            snapshot_set_id=SnapshotSetId(UUID(row[1])),
            snapshots_count=row[2],
            device_object=row[3],
            original_volume_name=row[4],
            originating_machine=row[5],
            service_machine=row[6],
            exposed_name=row[7],
            exposed_path=row[8],
            provider_id=ProviderId(UUID(row[9])),
            attributes=Attribute(row[10]),
            creation_timestamp=row[11],
            status=SnapshotState(row[12]),
        ),
        luns=msgspec.json.decode(row[13], type=tuple[LunMapping, ...]),
    )
