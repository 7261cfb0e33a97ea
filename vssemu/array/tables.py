"""Rows of the journal read and written, inside a transaction that the journal opened.

Synchronous; called in the journal's thread. Knows no rules: what may follow what is decided
by the callers, in the same transaction.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from vssemu.array.naming import mint_lun_id, mint_serial
from vssemu.array.rows import LunRow, OperationKind, OperationRow, SetRow, SetState
from vssemu.vss.array import LunKind, LunState
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId

_LUN: Final = "id, serial, size, kind, engine, state, origin, set_id, position, claimed_by"
_MASKS: Final = "(SELECT group_concat(initiator, '/') FROM masks WHERE lun = id)"
_SET: Final = "id, owner, kind, state, boot, auto_release"
_SELECT_LUN: Final = f"SELECT {_LUN}, {_MASKS} FROM luns"


class Tables:
    """The journal's tables over an open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)

    def identity(self) -> str:
        """Return the array's identity."""
        (identity,) = self._run("SELECT identity FROM array").fetchone()
        return str(identity)

    def new_lun_id(self) -> LunId:
        """Return an id that was never given before."""
        (counter,) = self._run(
            "UPDATE array SET luns_made = luns_made + 1 RETURNING luns_made - 1"
        ).fetchone()
        return mint_lun_id(counter)

    # LUNs

    def lun(self, lun: LunId) -> LunRow | None:
        """Return a LUN, or None when there is none of that id."""
        row = self._run(f"{_SELECT_LUN} WHERE id = ?", lun).fetchone()
        return None if row is None else _lun(row)

    def luns(self) -> list[LunRow]:
        """Return all LUNs in the order in which they were made."""
        rows = self._run(f"{_SELECT_LUN} ORDER BY substr(id, 27)")
        return [_lun(row) for row in rows]

    def luns_of_initiator(self, initiator: Initiator) -> list[LunRow]:
        """Return the LUNs unmasked to an initiator."""
        rows = self._run(
            f"{_SELECT_LUN} JOIN masks ON masks.lun = luns.id WHERE masks.initiator = ?"
            " ORDER BY substr(id, 27)",
            initiator,
        )
        return [_lun(row) for row in rows]

    def luns_of_set(self, set_id: SnapshotSetId) -> list[LunRow]:
        """Return the LUNs of a set in the order in which their sources were given."""
        rows = self._run(f"{_SELECT_LUN} WHERE set_id = ? ORDER BY position", str(set_id))
        return [_lun(row) for row in rows]

    def luns_in_state(self, state: LunState) -> list[LunRow]:
        """Return the LUNs in a state."""
        rows = self._run(f"{_SELECT_LUN} WHERE state = ? ORDER BY substr(id, 27)", state.value)
        return [_lun(row) for row in rows]

    def copies_of(self, origin: LunId) -> list[LunRow]:
        """Return the LUNs that are copies of one, in any state."""
        return [_lun(row) for row in self._run(f"{_SELECT_LUN} WHERE origin = ?", origin)]

    def add_lun(self, row: LunRow) -> LunRow:
        """Write a new LUN, mapped nowhere, and return it."""
        self._run(
            f"INSERT INTO luns ({_LUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row.id,
            row.serial,
            row.size,
            row.kind.value,
            row.engine,
            row.state.value,
            row.origin,
            None if row.set_id is None else str(row.set_id),
            row.position,
            row.claimed_by,
        )
        return row

    def add_copy(self, source: LunRow, group: SetRow, engine: str, position: int) -> LunRow:
        """Write a copy that is to be made of a LUN, with an identity of its own."""
        return self.add_lun(
            LunRow(
                id=self.new_lun_id(),
                serial=mint_serial(),
                size=source.size,
                kind=group.kind,
                engine=engine,
                state=LunState.PREPARED,
                origin=source.id,
                set_id=group.id,
                position=position,
            )
        )

    def set_lun_state(self, lun: LunId, state: LunState) -> None:
        """Note a LUN's state."""
        self._run("UPDATE luns SET state = ? WHERE id = ?", state.value, lun)

    def set_lun_size(self, lun: LunId, size: int) -> None:
        """Note a LUN's size in bytes."""
        self._run("UPDATE luns SET size = ? WHERE id = ?", size, lun)

    def lun_flags(self, lun: LunId) -> int:
        """Return the attribute bits of a LUN, the lowest one being bit 60 of a partition."""
        (bits,) = self._run("SELECT attributes FROM luns WHERE id = ?", lun).fetchone()
        return int(bits)

    def set_lun_flags(self, lun: LunId, bits: int) -> None:
        """Note the attribute bits of a LUN, as `lun_flags` returns them."""
        self._run("UPDATE luns SET attributes = ? WHERE id = ?", bits, lun)

    def inherit_flags(self, set_id: SnapshotSetId) -> None:
        """Give the copies of a set the attribute bits that their origins have now."""
        self._run(
            "UPDATE luns SET attributes ="
            " (SELECT attributes FROM luns AS origins WHERE origins.id = luns.origin)"
            " WHERE set_id = ?",
            str(set_id),
        )

    def claim(self, lun: LunId, initiator: Initiator | None) -> None:
        """Note who has imported a copy; None: nobody has it any more."""
        self._run("UPDATE luns SET claimed_by = ? WHERE id = ?", initiator, lun)

    def leave_set(self, lun: LunId) -> None:
        """Take a LUN out of its set; a set without LUNs is forgotten."""
        row = self.lun(lun)
        self._run("UPDATE luns SET set_id = NULL, position = NULL WHERE id = ?", lun)
        if row is not None and row.set_id is not None:
            self.forget_empty_set(row.set_id)

    def retire_lun(self, lun: LunId) -> None:
        """Remove a LUN for good; its id stays taken."""
        row = self.lun(lun)
        if row is None:
            return
        self._run("INSERT OR IGNORE INTO retired VALUES (?, ?)", row.id, row.serial)
        # A full copy outlives its origin; the schema refuses that any other does.
        self._run(
            "UPDATE luns SET origin = NULL WHERE origin = ? AND kind = ?", lun, LunKind.PLEX.value
        )
        self._run("DELETE FROM luns WHERE id = ?", lun)
        if row.set_id is not None:
            self.forget_empty_set(row.set_id)

    def retired_serial(self, lun: LunId) -> str | None:
        """Return the serial of a LUN that is gone, None when there never was one."""
        row = self._run("SELECT serial FROM retired WHERE id = ?", lun).fetchone()
        return None if row is None else str(row[0])

    # Masking

    def initiators(self) -> list[Initiator]:
        """Return the initiators that the array knows."""
        return [Initiator(name) for (name,) in self._run("SELECT name FROM initiators")]

    def add_initiator(self, initiator: Initiator) -> None:
        """Note an initiator; one that is known is no error."""
        self._run("INSERT OR IGNORE INTO initiators VALUES (?)", initiator)

    def remove_initiator(self, initiator: Initiator) -> None:
        """Forget an initiator that no LUN is unmasked to."""
        self._run("DELETE FROM initiators WHERE name = ?", initiator)

    def unmask(self, lun: LunId, initiator: Initiator) -> None:
        """Note that an initiator sees a LUN."""
        self._run("INSERT OR IGNORE INTO masks VALUES (?, ?)", lun, initiator)

    def mask(self, lun: LunId, initiator: Initiator) -> None:
        """Note that an initiator sees a LUN no more."""
        self._run("DELETE FROM masks WHERE lun = ? AND initiator = ?", lun, initiator)

    # Sets

    def snapshot_set(self, set_id: SnapshotSetId) -> SetRow | None:
        """Return a set, or None."""
        rows = self._sets("WHERE id = ?", str(set_id))
        return rows[0] if rows else None

    def sets(self, states: Iterable[SetState], owner: Initiator | None = None) -> list[SetRow]:
        """Return the sets in one of these states; of one owner, when given."""
        wanted = frozenset(states)
        found = self._sets("") if owner is None else self._sets("WHERE owner = ?", owner)
        return [row for row in found if row.state in wanted]

    def _sets(self, where: str, *values: str) -> list[SetRow]:
        rows = self._run(f"SELECT {_SET} FROM sets {where}", *values)
        return [
            SetRow(
                id=SnapshotSetId(UUID(set_id)),
                owner=Initiator(owner),
                kind=LunKind(kind),
                state=SetState(state),
                boot=boot,
                auto_release=bool(auto_release),
            )
            for set_id, owner, kind, state, boot, auto_release in rows
        ]

    def add_set(self, row: SetRow) -> SetRow:
        """Write a new set and return it."""
        self._run(
            f"INSERT INTO sets ({_SET}) VALUES (?, ?, ?, ?, ?, ?)",
            str(row.id),
            row.owner,
            row.kind.value,
            row.state.value,
            row.boot,
            int(row.auto_release),
        )
        return row

    def set_set_state(
        self, set_id: SnapshotSetId, state: SetState, *, boot: str | None = None
    ) -> None:
        """Note a set's state, and the boot where one is given."""
        self._run(
            "UPDATE sets SET state = ?, boot = coalesce(?, boot) WHERE id = ?",
            state.value,
            boot,
            str(set_id),
        )

    def forget_empty_set(self, set_id: SnapshotSetId) -> None:
        """Remove a set that has no LUN any more."""
        self._run(
            "DELETE FROM sets WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM luns WHERE set_id = ?1)",
            str(set_id),
        )

    # Operations

    def begin(
        self,
        kind: OperationKind,
        lun: LunId,
        *,
        initiator: Initiator | None = None,
        size: int | None = None,
    ) -> int:
        """Note an operation before it starts; return its number."""
        (number,) = self._run(
            "INSERT INTO operations (kind, lun, initiator, size) VALUES (?, ?, ?, ?)"
            " RETURNING number",
            kind.value,
            lun,
            initiator,
            size,
        ).fetchone()
        return int(number)

    def end(self, number: int) -> None:
        """Note that an operation is over, one way or the other."""
        self._run("DELETE FROM operations WHERE number = ?", number)

    def operations(self) -> list[OperationRow]:
        """Return the operations that are under way, oldest first."""
        rows = self._run("SELECT number, kind, lun, initiator, size FROM operations ORDER BY 1")
        return [
            OperationRow(
                number=number,
                kind=OperationKind(kind),
                lun=LunId(lun),
                initiator=None if initiator is None else Initiator(initiator),
                size=size,
            )
            for number, kind, lun, initiator, size in rows
        ]

    # Loop devices given to hosts

    def grants(self) -> dict[int, Initiator]:
        """Return which host was given which loop device."""
        rows = self._run("SELECT device, initiator FROM grants")
        return {device: Initiator(initiator) for device, initiator in rows}

    def add_grant(self, device: int, initiator: Initiator) -> None:
        """Note that a loop device was given to a host."""
        self._run("INSERT INTO grants VALUES (?, ?)", device, initiator)

    def remove_grant(self, device: int) -> None:
        """Note that a loop device is nobody's any more."""
        self._run("DELETE FROM grants WHERE device = ?", device)


def _lun(row: tuple[Any, ...]) -> LunRow:
    return LunRow(
        id=LunId(row[0]),
        serial=row[1],
        size=row[2],
        kind=LunKind(row[3]),
        engine=row[4],
        state=LunState(row[5]),
        origin=None if row[6] is None else LunId(row[6]),
        set_id=None if row[7] is None else SnapshotSetId(UUID(row[7])),
        position=row[8],
        claimed_by=None if row[9] is None else Initiator(row[9]),
        masked_to=tuple(Initiator(name) for name in sorted((row[10] or "").split("/")) if name),
    )
