"""The attribute bits of the source volumes while a set is created.

Before the instant every volume on the LUNs of the set gets read-only, hidden, shadow-copy and
no-drive-letter, so that the copies come up quietly; afterwards each gets back what it had.
The catalog notes the old bits first: a crash before the commit leaves the originals as they
were. Source: the-shadow-copy-creation-process.
"""

from collections import defaultdict
from collections.abc import Sequence

from vssemu.service.parts import Parts
from vssemu.vss.errors import ObjectNotFound
from vssemu.vss.host import SHADOW_FLAGS, GptFlags, Volume
from vssemu.vss.identity import SnapshotSetId


async def volumes_on_luns_of(parts: Parts, volumes: Sequence[Volume]) -> list[Volume]:
    """Return all volumes of this host that lie on a LUN of the given ones."""
    luns = {extents.lun_id for volume in volumes for extents in volume.luns}
    return [
        volume
        for volume in await parts.host.volumes()
        if any(extents.lun_id in luns for extents in volume.luns)
    ]


async def set_shadow_flags(parts: Parts, set_id: SnapshotSetId, volumes: Sequence[Volume]) -> None:
    """Note the bits of the volumes and set the four."""
    parts.catalog.note_flags(set_id, [(volume.name, GptFlags(volume.flags)) for volume in volumes])
    for flags, group in _by_flags(
        [(volume, GptFlags(volume.flags)) for volume in volumes]
    ).items():
        await parts.host.set_flags(group, flags | SHADOW_FLAGS)


async def restore(parts: Parts, set_id: SnapshotSetId) -> None:
    """Give the volumes back the bits that were noted; nothing if none are.

    A volume that is not on this host any more keeps the bits it has.
    """
    noted = parts.catalog.noted_flags(set_id)
    found: list[tuple[Volume, GptFlags]] = []
    for name, flags in noted:
        # Asked for one by one: to a host that started anew, a volume with these bits looks
        # like a copy and is not among its volumes.
        try:
            found.append((await parts.host.volume(name), flags))
        except ObjectNotFound:
            parts.log.record("source_volume_gone", set_id=str(set_id), volume=name)
    for flags, group in _by_flags(found).items():
        await parts.host.set_flags(group, flags)
    if noted:
        parts.catalog.forget_flags(set_id)


def _by_flags(volumes: Sequence[tuple[Volume, GptFlags]]) -> dict[GptFlags, list[Volume]]:
    groups: dict[GptFlags, list[Volume]] = defaultdict(list)
    for volume, flags in volumes:
        groups[flags].append(volume)
    return groups
