"""ImportSnapshots: the transportable set of a document comes up on this host, once.

A set that is here is refused; one that another host imported is refused by the array. LUNs
were left alone before LocateLuns is called: one that is on this host already belongs to
somebody, and nothing of this import may touch it. What came and could not be used stays on
this host, listed under the set's id, until the requester's clean-up.
Source: importing-transportable-shadow-copied-volumes; IVssBackupComponents::ImportSnapshots.
"""

from collections.abc import Sequence
from dataclasses import replace

import trio

from vssemu.service import undo
from vssemu.service.arrival import Arrival, bring_in, destinations
from vssemu.service.catalog import SetStatus, StoredCopy, StoredSet
from vssemu.service.parts import Parts
from vssemu.service.recording import keep, note_copies
from vssemu.service.together import ungrouped
from vssemu.service.trace import Trace
from vssemu.vss.attributes import Attribute
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.errors import (
    NonTransportableBcd,
    NoSnapshotsImported,
    ObjectAlreadyExists,
)
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import SnapshotSetId, braced
from vssemu.vss.lun import LunInformation
from vssemu.vss.snapshot import SnapshotSetDescription
from vssemu.vss.steps import IMPORT, ImportStep


async def import_snapshots(
    parts: Parts, document: BackupComponentsDocument, holder: str
) -> Hresult:
    """Import the set of a document; return VSS_S_ASYNC_FINISHED or VSS_S_SOME_...

    holder: the session that a set of an auto-release context ends with.
    Raises NonTransportableBcd, InvalidXmlDocument, ProviderNotRegistered, ObjectAlreadyExists,
    NoSnapshotsImported, or what the provider refused with.
    """
    description = document.snapshot_set_description()
    keep("import", description.snapshot_set_id, description.context)
    note_copies(description.snapshots)
    _check(description)
    for snapshot in description.snapshots:
        parts.providers.find(snapshot.properties.provider_id)
    async with parts.importing:
        return await _Import(parts, description, holder).run()


class _Import:
    """One import, alone on its host."""

    def __init__(self, parts: Parts, description: SnapshotSetDescription, holder: str) -> None:
        self.parts = parts
        self.set_id = description.snapshot_set_id
        self.context = description.context
        self.holder = holder
        self.trace = Trace(name=IMPORT, set_id=str(self.set_id), faults=parts.faults)
        self.arrival = Arrival()
        self.wanted = [
            StoredCopy(
                properties=replace(
                    snapshot.properties,
                    attributes=snapshot.properties.attributes
                    | Attribute.IMPORTED
                    | Attribute.NOT_SURFACED,
                ),
                luns=snapshot.luns,
            )
            for snapshot in description.snapshots
        ]

    async def run(self) -> Hresult:
        before = await self._check()
        done = False
        try:
            with ungrouped():
                async with self.trace.step(ImportStep.NOTE):
                    self._note(SetStatus.IMPORTING, self.wanted)
                await bring_in(self.parts, self.wanted, self.trace, self.arrival)
                async with self.trace.step(ImportStep.FINISH):
                    await self._settle()
            done = True
        finally:
            if not done:
                with trio.move_on_after(self.parts.limits.clean_up, shield=True):
                    await self._undo(before)
            self._log(done=done)
        missing = self.arrival.missing
        return Hresult.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED if missing else _FINISHED

    async def _check(self) -> StoredSet | None:
        """Return what the catalog has of the set, if it may be imported."""
        async with self.trace.step(ImportStep.CHECK):
            before = self.parts.catalog.find_set(self.set_id)
            if before is not None and before.status is not SetStatus.HELD:
                raise self._is_here(f"the set is on this host ({before.status.value})")
            already = await self.parts.host.wait_arrival(destinations(self.wanted), 0.0)
            if already:
                raise self._is_here(f"its LUN {already[0].information.describe()} is on this host")
        return before

    async def _settle(self) -> None:
        """Keep what came; raise when nothing did."""
        if not self.arrival.present:
            reason = self.arrival.missing[0][1]
            raise NoSnapshotsImported(
                f"ImportSnapshots: nothing of set {braced(self.set_id)} was imported:"
                f" {reason.fact}",
                hint="LUNs that arrived are listed with the state import-failed; clean them up",
                item=str(self.set_id),
            )
        await self._mark([copy for copy, _ in self.arrival.missing])
        self._note(SetStatus.PRESENT, self.arrival.present)

    async def _undo(self, before: StoredSet | None) -> None:
        for copy in self.arrival.present:
            await undo.best(
                self.parts,
                "retire",
                lambda copy=copy: self.parts.host.retire(copy.id),  # type: ignore[misc]
            )
        await undo.best(self.parts, "mark_import_failed", lambda: self._mark(self.wanted))
        if before is None:
            self.parts.catalog.remove_set(self.set_id)
        else:
            self.parts.catalog.put_set(before)

    async def _mark(self, failed: Sequence[StoredCopy]) -> None:
        """List the LUNs of copies that are on this host without being of use."""
        in_use = destinations(self.arrival.present) if failed is not self.wanted else []
        await mark(self.parts, self.set_id, [d for d in destinations(failed) if d not in in_use])

    def _is_here(self, why: str) -> ObjectAlreadyExists:
        return ObjectAlreadyExists(
            f"ImportSnapshots({braced(self.set_id)}): {why}",
            hint="a set is imported once; after a failed import clean its LUNs up",
            item=str(self.set_id),
        )

    def _note(self, status: SetStatus, copies: Sequence[StoredCopy]) -> None:
        stored = StoredSet(
            set_id=self.set_id,
            context=self.context,
            status=status,
            holder=self.holder,
            copies=tuple(copies),
        )
        self.parts.catalog.put_set(stored)

    def _log(self, *, done: bool) -> None:
        self.parts.log.record(
            "import",
            set_id=str(self.set_id),
            outcome="ok" if done else "failed",
            imported=[str(copy.id) for copy in self.arrival.present] if done else [],
            missing={str(copy.id): str(error) for copy, error in self.arrival.missing},
            seconds=round(self.trace.seconds, 6),
            steps=self.trace.steps,
        )


async def mark(parts: Parts, set_id: SnapshotSetId, records: Sequence[LunInformation]) -> None:
    """List those of the LUNs that are on this host under a failed import."""
    await parts.host.rescan()
    arrived = await parts.host.wait_arrival(records, 0.0)
    names = {lun.information.naa for lun in arrived}
    here = [record for record in records if record.naa in names]
    if here:
        await parts.host.mark_import_failed(here, set_id)


_FINISHED = Hresult.VSS_S_ASYNC_FINISHED


def _check(description: SnapshotSetDescription) -> None:
    if not description.context & Attribute.TRANSPORTABLE:
        raise NonTransportableBcd(
            f"ImportSnapshots: set {braced(description.snapshot_set_id)} is not transportable",
            hint="create it with the transportable option",
            item=str(description.snapshot_set_id),
        )
