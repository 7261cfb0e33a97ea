"""What a lab consists of: hosts, volumes, pool, engine; how options and records write it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from vssemu.stores.format import check_chunk_size
from vssemu.vss.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,30}\Z")
_SIZE = re.compile(r"(?P<number>[0-9]+)(?P<unit>[KMGT]?)(i?B)?\Z", re.IGNORECASE)
_VOLUME = re.compile(
    r"(?P<letter>[A-Za-z]):=(?P<size>[^:@]+)(:(?P<fs>[a-z0-9]+)(?P<whole>:whole)?)?"
    r"(@(?P<host>.+))?\Z"
)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MIB = 1 << 20
COW = "cow"
ENGINES: Mapping[str, str] = {
    "reflink": "clones by the file system; all bytes go through the kernel alone",
    COW: "old data kept as dm-snapshot does, by lunfs over FUSE; fails on demand",
}
"""The snapshot engines that an array may have, and what each is."""

SAFETIES: Mapping[str, str] = {
    "power": "snapshots outlive a loss of power",
    "process": "they outlive kills alone; first writes are faster",
}
"""How safe the snapshots of the engine cow are."""

FILESYSTEMS: Mapping[str, int] = {"ext4": 14 * MIB, "xfs": 300 * MIB}
"""The file systems that a volume may have, and the bytes that each needs at least."""

TABLE_ROOM = 2 * MIB
"""What the two copies of a partition table, and the granule of 1 MiB, take of a LUN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeSpec:
    """A volume on a LUN. letter: capital, without colon.

    size: bytes, of the LUN; of the partition where there is a `lun`. whole: the file system
    takes the LUN without a partition table. lun: volumes of a host with the same label here
    share one LUN, partitions in the order given.
    """

    letter: str
    size: int
    filesystem: str = "ext4"
    host: str | None = None
    whole: bool = False
    lun: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LabConfig:
    """A lab. Volumes without a host go to the first one. pool: None is the lab's own.

    chunk_size: bytes, safety: one of SAFETIES; of the engine cow alone, None is its default.
    """

    name: str = "lab"
    hosts: tuple[str, ...] = ("systemOne", "systemTwo")
    volumes: tuple[VolumeSpec, ...] = ()
    pool: str | None = None
    engine: str = "reflink"
    chunk_size: int | None = None
    safety: str | None = None

    def host_of(self, volume: VolumeSpec) -> str:
        """Return the host that a volume's LUN is unmasked to at first."""
        return volume.host or self.hosts[0]


def parse_size(text: str) -> int:
    """Return the bytes that `512M`, `2G`, `2GiB` or a plain number mean.

    Raises InvalidArgument.
    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise InvalidArgument(
            f"size {text!r} is not a number with K, M, G or T", hint="for example 2G", item=text
        )
    return int(match["number"]) * _UNITS[match["unit"].upper()]


def parse_volumes(text: str) -> tuple[VolumeSpec, ...]:
    """Return the volumes of one LUN: one, or several that are joined by `+`.

    `F:=512M+G:=400M:xfs@systemOne` are two partitions of one LUN of systemOne.
    Raises InvalidArgument as `parse_volume`, and for two hosts of one LUN.
    """
    parts = text.split("+")
    volumes = [parse_volume(part, shares_lun=len(parts) > 1) for part in parts]
    hosts = {volume.host for volume in volumes if volume.host is not None}
    if len(hosts) > 1:
        raise InvalidArgument(
            f"volumes {text!r}: one LUN is of one host, not of {' and '.join(sorted(hosts))}",
            item=text,
        )
    if len(parts) == 1:
        return tuple(volumes)
    host = next(iter(hosts), None)
    label = "+".join(volume.letter for volume in volumes)
    return tuple(replace(volume, host=host, lun=label) for volume in volumes)


def parse_volume(text: str, *, shares_lun: bool = False) -> VolumeSpec:
    """Return the volume that `F:=2G`, `F:=2G:ext4` or `F:=2G:xfs:whole@systemOne` describes.

    shares_lun: the size is the partition's, not the LUN's.
    Raises InvalidArgument, also for a size that is no multiple of 1 MiB or too small for the
    file system.
    """
    match = _VOLUME.match(text)
    if match is None:
        raise InvalidArgument(
            f"volume {text!r} is not LETTER:=SIZE[:FILESYSTEM[:whole]][@HOST]",
            hint="for example F:=2G:ext4; + joins volumes onto one LUN",
            item=text,
        )
    volume = VolumeSpec(
        letter=match["letter"].upper(),
        size=parse_size(match["size"]),
        filesystem=match["fs"] or "ext4",
        host=match["host"],
        whole=match["whole"] is not None,
    )
    return checked_volume(volume, text, shares_lun=shares_lun)


def checked_volume(volume: VolumeSpec, text: str, *, shares_lun: bool) -> VolumeSpec:
    """Return the volume that `text` describes. Raises InvalidArgument as `parse_volume`."""
    if volume.filesystem not in FILESYSTEMS:
        raise InvalidArgument(
            f"volume {text!r}: file system {volume.filesystem} is not supported",
            hint=f"use one of {', '.join(FILESYSTEMS)}",
            item=volume.filesystem,
        )
    if volume.whole and shares_lun:
        raise InvalidArgument(
            f"volume {text!r}: a file system on the whole LUN leaves no room for another volume",
            item=text,
        )
    room = 0 if volume.whole or shares_lun else TABLE_ROOM
    least = FILESYSTEMS[volume.filesystem] + room
    if volume.size < least or volume.size % MIB:
        raise InvalidArgument(
            f"volume {text!r}: the size is below {least // MIB} MiB, which"
            f" {volume.filesystem} needs, or no multiple of 1 MiB",
            item=text,
        )
    return volume


def checked_name(name: object) -> str:
    """Return a name that a lab, or a host, may have. Raises InvalidArgument."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidArgument(
            f"name {name!r}: letters, digits and dashes, at most 31, are allowed", item=str(name)
        )
    return name


def checked(config: LabConfig) -> LabConfig:
    """Return the configuration. Raises InvalidArgument with the item that is wrong."""
    for name in (config.name, *config.hosts):
        checked_name(name)
    if not config.hosts or len(set(config.hosts)) != len(config.hosts):
        raise InvalidArgument("a lab needs at least one host, each named once")
    if config.engine not in ENGINES:
        raise InvalidArgument(
            f"engine {config.engine!r} is not known",
            hint=f"use one of {', '.join(ENGINES)}",
            item=config.engine,
        )
    _check_cow(config)
    taken: set[tuple[str, str]] = set()
    for volume in config.volumes:
        host = config.host_of(volume)
        if host not in config.hosts:
            raise InvalidArgument(f"volume {volume.letter}: no host {host!r}", item=host)
        if (host, volume.letter) in taken:
            raise InvalidArgument(f"volume {volume.letter}: is given twice", item=volume.letter)
        if volume.whole and volume.lun is not None:
            raise InvalidArgument(
                f"volume {volume.letter}: takes its whole LUN and shares it", item=volume.letter
            )
        taken.add((host, volume.letter))
    if config.pool is not None and not Path(config.pool).is_absolute():
        raise InvalidArgument(f"pool {config.pool!r} is not an absolute path", item=config.pool)
    return config


def _check_cow(config: LabConfig) -> None:
    """Raise InvalidArgument for settings of the engine cow that it has not."""
    settings = {"chunk size": config.chunk_size, "safety": config.safety}
    given = [name for name, value in settings.items() if value is not None]
    if given and config.engine != COW:
        raise InvalidArgument(
            f"the engine {config.engine} has no {given[0]}",
            hint="use the engine cow",
            item=given[0],
        )
    if config.safety not in {None, *SAFETIES}:
        raise InvalidArgument(
            f"safety {config.safety!r} is not known",
            hint=f"use one of {', '.join(SAFETIES)}",
            item=config.safety,
        )
    if config.chunk_size is not None:
        try:
            check_chunk_size(config.chunk_size)
        except ValueError as error:
            raise InvalidArgument(str(error), item=str(config.chunk_size)) from error


def encode(config: LabConfig) -> bytes:
    """Return the configuration as JSON, for the state directory."""
    return msgspec.json.encode(config)


def decode(data: bytes) -> LabConfig:
    """Return the configuration of a state directory. Raises InvalidArgument when spoilt."""
    try:
        return msgspec.json.decode(data, type=LabConfig)
    except msgspec.DecodeError as error:
        raise InvalidArgument(
            f"the lab's own record is spoilt: {error}", hint="vssemu lab down --force"
        ) from error
