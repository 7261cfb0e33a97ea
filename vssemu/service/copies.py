"""Shadow copies of this host as requesters see them: properties, look-ups, their JSON.

Owns the making of VSS_SNAPSHOT_PROP and the rule which copies a requester may see: those of
sets that are here; a transportable set on its creator is in the document alone.
"""

from dataclasses import replace
from datetime import datetime

import msgspec

from vssemu.service.catalog import Catalog, SetStatus, StoredCopy, StoredSet
from vssemu.service.openset import OpenSet, PendingCopy
from vssemu.vss.attributes import Attribute, Context, context_of
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import ObjectNotFound
from vssemu.vss.host import DeviceObject
from vssemu.vss.identity import SnapshotId, SnapshotSetId, braced
from vssemu.vss.snapshot import SnapshotProperties, filetime


def properties_of(
    open_set: OpenSet, copy: PendingCopy, machine: str, instant: datetime
) -> SnapshotProperties:
    """Return the properties of a copy of a set that is being created."""
    attributes = Attribute(open_set.context) | Attribute.NOT_SURFACED
    if copy.provider.type is ProviderType.HARDWARE:
        attributes |= Attribute.HARDWARE_ASSISTED
    return SnapshotProperties(
        snapshot_id=copy.snapshot_id,
        snapshot_set_id=open_set.set_id,
        snapshots_count=len(open_set.copies),
        device_object="",
        original_volume_name=copy.volume.name,
        originating_machine=machine,
        service_machine=machine,
        provider_id=copy.provider.id,
        attributes=attributes,
        creation_timestamp=filetime(instant),
    )


def surfaced(copy: StoredCopy, device: DeviceObject) -> StoredCopy:
    """Return the copy with its device object."""
    return replace(copy, properties=replace(copy.properties, device_object=device.path))


def properties_json(properties: SnapshotProperties) -> str:
    """Return VSS_SNAPSHOT_PROP as one JSON object; the attributes by number and by name."""
    facts = msgspec.to_builtins(properties)
    names = [bit.name for bit in Attribute if bit in properties.attributes]
    return msgspec.json.encode(facts | {"attribute_names": names}).decode()


def find_set(catalog: Catalog, set_id: SnapshotSetId, call: str) -> StoredSet:
    """Return a set that is on this host, without copies whose deletion has begun.

    Raises ObjectNotFound.
    """
    found = catalog.find_set(set_id)
    alive = () if found is None else tuple(copy for copy in found.copies if not copy.is_doomed)
    if found is None or found.status is not SetStatus.PRESENT or not alive:
        raise _missing(call, f"shadow copy set {braced(set_id)}", str(set_id))
    return replace(found, copies=alive)


def find_copy(
    catalog: Catalog, snapshot_id: SnapshotId, call: str
) -> tuple[StoredSet, StoredCopy]:
    """Return a copy that is on this host, and its set. Raises ObjectNotFound."""
    found = catalog.set_of(snapshot_id)
    alive = () if found is None else [copy for copy in found.copies if not copy.is_doomed]
    copy = next((copy for copy in alive if copy.id == snapshot_id), None)
    if found is None or found.status is not SetStatus.PRESENT or copy is None:
        raise _missing(call, f"shadow copy {braced(snapshot_id)}", str(snapshot_id))
    return found, copy


def visible(catalog: Catalog, context: int) -> list[SnapshotProperties]:
    """Return the copies of a context; all of them under VSS_CTX_ALL."""
    wanted = context_of(context)
    return [
        copy.properties
        for found in catalog.sets(SetStatus.PRESENT)
        for copy in found.copies
        if not copy.is_doomed and wanted in (Context.ALL, context_of(found.context))
    ]


def _missing(call: str, what: str, item: str) -> ObjectNotFound:
    return ObjectNotFound(
        f"{call}: {what} is not on this host",
        hint="a transportable set is seen where it was imported; query with VSS_CTX_ALL",
        item=item,
    )
