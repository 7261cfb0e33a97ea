"""Breaking a set: VSS forgets it, its LUNs stay on this host as plain read-only ones.

Only for imported sets of hardware providers. Afterwards releasing any interface deletes
nothing of it. Source: breaking-shadow-copies; IVssBackupComponents::BreakSnapshotSet.
"""

from vssemu.service import copies
from vssemu.service.parts import Parts
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import BadState, ProviderVeto
from vssemu.vss.identity import SnapshotSetId, braced


async def break_snapshot_set(
    parts: Parts, set_id: SnapshotSetId, not_imported: SnapshotSetId | None
) -> None:
    """Break a set.

    not_imported: the transportable set that the caller's own document describes, or None.
    Raises ObjectNotFound, BadState (not imported), ProviderVeto (a software copy).
    """
    found = parts.catalog.find_set(set_id)
    if not_imported == set_id and (found is None or not found.copies[0].properties.device_object):
        raise BadState(
            f"BreakSnapshotSet({braced(set_id)}): the set was not imported on this host",
            hint="import it first",
            item=str(set_id),
        )
    stored = copies.find_set(parts.catalog, set_id, "BreakSnapshotSet")
    for copy in stored.copies:
        provider = parts.providers.find(copy.properties.provider_id)
        if provider.type is not ProviderType.HARDWARE:
            raise ProviderVeto(
                f"BreakSnapshotSet({braced(set_id)}): shadow copy {braced(copy.id)} is a"
                " software copy",
                hint="only hardware shadow copies can be broken",
                item=str(copy.id),
            )
    for copy in stored.copies:
        await parts.host.release(copy.id)
        parts.catalog.remove_copy(copy.id)
        parts.log.record(
            "shadow_copy_broken",
            set_id=str(set_id),
            snapshot_id=str(copy.id),
            device_object=copy.properties.device_object,
        )
