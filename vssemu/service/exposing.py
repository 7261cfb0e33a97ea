"""Exposing shadow copies at a drive letter or a folder, and taking that back.

Only persistent copies, only locally: shares are not offered here.
Source: exposing-and-surfacing-shadow-copied-volumes; ExposeSnapshot, UnexposeSnapshot.
"""

from dataclasses import replace

from vssemu.service import copies
from vssemu.service.parts import Parts
from vssemu.vss.attributes import Attribute
from vssemu.vss.errors import (
    InvalidArgument,
    NotSupportedHere,
    ObjectAlreadyExists,
    ObjectNotFound,
    UnsupportedContext,
)
from vssemu.vss.identity import SnapshotId, braced
from vssemu.vss.snapshot import SnapshotProperties


async def expose(
    parts: Parts,
    snapshot_id: SnapshotId,
    path_from_root: str | None,
    attributes: Attribute,
    target: str | None,
) -> str:
    """Mount a copy read-only at a place and return the place's name.

    Raises ObjectNotFound, InvalidArgument, UnsupportedContext for a copy that is not
    persistent or is client-accessible, NotSupportedHere for shares.
    """
    call = f"ExposeSnapshot({braced(snapshot_id)})"
    _, copy = copies.find_copy(parts.catalog, snapshot_id, "ExposeSnapshot")
    _check_arguments(call, path_from_root, attributes, target)
    has = copy.properties.attributes
    if Attribute.PERSISTENT not in has or Attribute.CLIENT_ACCESSIBLE in has:
        raise UnsupportedContext(
            f"{call}: only copies of the APP_ROLLBACK and NAS_ROLLBACK contexts can be exposed",
            hint="read it through its device object, or create it with a persistent context",
            item=str(snapshot_id),
        )
    if copy.properties.exposed_name:
        raise ObjectAlreadyExists(
            f"{call}: it is exposed at {copy.properties.exposed_name}",
            hint="unexpose it first",
            item=copy.properties.exposed_name,
        )
    assert target is not None
    name = await parts.host.expose(snapshot_id, target)
    shown = (has | Attribute.EXPOSED_LOCALLY) & ~Attribute.NOT_SURFACED
    await _change(parts, replace(copy.properties, exposed_name=name, attributes=shown))
    return name


async def unexpose(parts: Parts, snapshot_id: SnapshotId) -> None:
    """Take a copy's letter or folder away. Raises ObjectNotFound, also when it has none."""
    _, copy = copies.find_copy(parts.catalog, snapshot_id, "UnexposeSnapshot")
    if copy.properties.exposed_name is None:
        raise ObjectNotFound(
            f"UnexposeSnapshot({braced(snapshot_id)}): it is not exposed", item=str(snapshot_id)
        )
    await parts.host.unexpose(snapshot_id)
    hidden = (copy.properties.attributes & ~Attribute.EXPOSED_LOCALLY) | Attribute.NOT_SURFACED
    await _change(parts, replace(copy.properties, exposed_name=None, attributes=hidden))


async def _change(parts: Parts, properties: SnapshotProperties) -> None:
    parts.catalog.update_copy(properties)
    await parts.host.update_properties(properties.snapshot_id, copies.properties_json(properties))


def _check_arguments(
    call: str, path_from_root: str | None, attributes: Attribute, target: str | None
) -> None:
    if attributes == Attribute.EXPOSED_REMOTELY:
        raise NotSupportedHere(f"{call}: shares are not offered", hint="expose it locally")
    if attributes != Attribute.EXPOSED_LOCALLY:
        raise InvalidArgument(
            f"{call}: attributes 0x{int(attributes):x}",
            hint="give VSS_VOLSNAP_ATTR_EXPOSED_LOCALLY",
            item=f"0x{int(attributes):x}",
        )
    if path_from_root is not None:
        raise InvalidArgument(
            f"{call}: a local exposure takes no path from the root", item=path_from_root
        )
    if not target:
        raise InvalidArgument(f"{call}: no letter and no folder", hint="give X: or a folder")
