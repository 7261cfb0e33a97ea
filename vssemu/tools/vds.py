"""`vssemu vds`: disks and volumes of a host, as a requester may handle them.

What the Virtual Disk Service is beside VSS: after a break a volume is made read/write, gets a
letter, its LUN is masked or unmasked; after a failed import its LUNs are cleaned up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import click

from vssemu.api import disks as api
from vssemu.tools import inside
from vssemu.tools.naming import GUID, LUN, PLACE, SIZE, VOLUME
from vssemu.tools.output import emit_json, emit_table, json_option, size_text
from vssemu.vss.host import Disk, GptFlags, Volume
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId

lun_argument = click.argument("lun", type=LUN)
volume_argument = click.argument("volume", type=VOLUME)


@click.group()
def vds() -> None:
    """Disks and volumes of this host: read/write, letters, masking, clean-up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskFacts:
    """A LUN on this host as `--json` shows it. size: bytes; volumes: names."""

    id: str
    device: str
    size: int
    status: str
    disk_guid: UUID | None
    volumes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeFacts:
    """A volume of this host as `--json` shows it. size: bytes; flags: names of its GPT bits."""

    name: str
    guid: UUID
    letters: tuple[str, ...]
    mount_points: tuple[str, ...]
    filesystem: str | None
    label: str | None
    size: int
    flags: tuple[str, ...]
    luns: tuple[str, ...]


def disk_facts(disk: Disk) -> DiskFacts:
    """Return what users and scripts see of a LUN on this host."""
    return DiskFacts(
        id=disk.lun_id,
        device=disk.lun.device_name,
        size=disk.size,
        status=disk.status.value,
        disk_guid=disk.disk_guid,
        volumes=disk.volumes,
    )


def volume_facts(volume: Volume) -> VolumeFacts:
    """Return what users and scripts see of a volume."""
    return VolumeFacts(
        name=volume.name,
        guid=volume.guid,
        letters=volume.letters,
        mount_points=volume.mount_points,
        filesystem=volume.filesystem,
        label=volume.label,
        size=volume.size,
        flags=tuple(bit.name for bit in GptFlags if volume.flags & bit and bit.name),
        luns=tuple(extents.lun_id for extents in volume.luns),
    )


def _table_of_disks(disks: Sequence[DiskFacts]) -> None:
    emit_table(
        ("DISK", "DEVICE", "SIZE", "STATUS", "VOLUMES"),
        [
            (one.id, one.device, size_text(one.size), one.status, " ".join(one.volumes) or None)
            for one in disks
        ],
    )


def _table_of_volumes(volumes: Sequence[VolumeFacts]) -> None:
    emit_table(
        ("VOLUME", "AT", "SIZE", "FILE SYSTEM", "LABEL", "FLAGS"),
        [
            (
                one.name,
                " ".join((*one.letters, *one.mount_points)) or None,
                size_text(one.size),
                one.filesystem,
                one.label or None,
                " ".join(one.flags) or None,
            )
            for one in volumes
        ],
    )


@vds.command("list")
@click.argument("what", type=click.Choice(("disks", "volumes")), required=False)
@json_option
def list_all(what: str | None, as_json: bool) -> None:
    """List the LUNs on this host, its volumes, or both; hidden ones too."""
    with inside.service() as vss:
        disks = [disk_facts(one) for one in vss.client.call(api.list_disks)]
        volumes = [volume_facts(one) for one in vss.client.call(api.list_volumes)]
    if as_json:
        both = {"disks": disks, "volumes": volumes}
        emit_json(both[what] if what else both)
        return
    if what != "volumes":
        _table_of_disks(disks)
    if what is None:
        click.echo()
    if what != "disks":
        _table_of_volumes(volumes)


@vds.command()
def rescan() -> None:
    """Look for LUNs that were unmasked to this host, or masked from it."""
    with inside.service() as vss:
        vss.client.call(api.rescan)


@vds.command("create-volume")
@lun_argument
@click.option("--filesystem", default="ext4", show_default=True, help="What to make.")
@click.option("--letter", type=PLACE, metavar="X:", help="Where to mount it.")
@click.option("--label", default=None, help="Label of the file system.")
@click.option("--size", type=SIZE, help="Of the partition, as 512M; else the largest room.")
@click.option("--whole", is_flag=True, help="Take all of the LUN, without a partition table.")
@json_option
def create_volume(
    lun: LunId,
    filesystem: str,
    letter: str | None,
    label: str | None,
    size: int | None,
    whole: bool,
    as_json: bool,
) -> None:
    """Make a partition on LUN, beside those there are, format it, and print the volume's name."""
    with inside.service() as vss:
        name = vss.client.call(api.create_volume, lun, filesystem, label, letter, size, whole)
    if as_json:
        emit_json({"lun": lun, "volume": name})
    else:
        click.echo(name)


@vds.command()
@volume_argument
def readwrite(volume: str) -> None:
    """Make VOLUME, of a broken shadow copy set, read/write."""
    with inside.service() as vss:
        vss.client.call(api.make_read_write, volume)


@vds.command()
@click.argument("volume", type=VOLUME, required=False)
@click.argument("place", metavar="X:", type=PLACE, required=False)
@click.option("--remove", type=PLACE, metavar="X:", help="Take the letter away instead.")
@json_option
def letter(volume: str | None, place: str | None, remove: str | None, as_json: bool) -> None:
    """Give VOLUME the drive letter X: and print where it is mounted; a folder will do too."""
    if (remove is None) != (volume is not None and place is not None) or (remove and volume):
        raise click.UsageError("Give a volume and its letter, or --remove and a letter.")
    with inside.service() as vss:
        if remove is not None:
            vss.client.call(api.remove_access_path, remove)
            mounted_at = None
        else:
            assert volume is not None, "checked above"
            assert place is not None, "checked above"
            mounted_at = vss.client.call(api.add_access_path, volume, place)
    if as_json:
        emit_json({"letter": remove or place, "mounted_at": mounted_at})
    elif mounted_at is not None:
        click.echo(mounted_at)


@vds.command()
@lun_argument
def mask(lun: LunId) -> None:
    """Dismount what is on LUN, detach it, and mask it from this host."""
    with inside.service() as vss:
        vss.client.call(api.mask, lun)


@vds.command()
@lun_argument
@click.argument("host")
def unmask(lun: LunId, host: str) -> None:
    """Unmask LUN, which this host has or had, to HOST; that host must rescan."""
    with inside.service() as vss:
        vss.client.call(api.unmask, lun, Initiator(host))


@vds.command("clean-up")
@click.argument("snapshot_set", metavar="SET", type=GUID)
@json_option
def clean_up(snapshot_set: UUID, as_json: bool) -> None:
    """Remove the LUNs that the failed import of shadow copy set SET left, and print them."""
    with inside.service() as vss:
        removed = vss.client.call(api.clean_up, SnapshotSetId(snapshot_set))
    if as_json:
        emit_json({"removed": removed})
    else:
        for lun in removed:
            click.echo(lun)
