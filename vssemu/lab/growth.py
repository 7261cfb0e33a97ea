"""What a lab that is there lacks of a description: hosts and volumes may come, nothing else.

Pure. A description is compared with every volume's host named, so that it does not matter
whether the host was written or is the first one.
"""

from dataclasses import dataclass, replace

from vssemu.lab.config import LabConfig, VolumeSpec
from vssemu.vss.errors import BadState


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """Hosts and volumes that are added to a lab; every volume names its host."""

    hosts: tuple[str, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything is added."""
        return bool(self.hosts or self.volumes)

    def __str__(self) -> str:
        """Return what is added, in words."""
        volumes = (f"volume {each.letter}: of {each.host}" for each in self.volumes)
        return ", ".join([*(f"host {name}" for name in self.hosts), *volumes])


def settled(config: LabConfig) -> LabConfig:
    """Return a configuration in which every volume names its host."""
    volumes = (replace(volume, host=config.host_of(volume)) for volume in config.volumes)
    return replace(config, volumes=tuple(volumes))


def whole(config: LabConfig) -> Growth:
    """Return all that a lab consists of."""
    return Growth(hosts=config.hosts, volumes=settled(config).volumes)


def grown(config: LabConfig, by: Growth) -> LabConfig:
    """Return the configuration with what is added."""
    now = settled(config)
    return replace(now, hosts=now.hosts + by.hosts, volumes=now.volumes + by.volumes)


def growth(recorded: LabConfig, wanted: LabConfig) -> Growth:
    """Return what `wanted` has beyond what is recorded of the lab.

    Raises BadState with every difference that is no addition.
    """
    there, asked = settled(recorded), settled(wanted)
    if differences := [*_settings(there, asked), *_missing(there, asked)]:
        raise BadState(
            f"lab {there.name} is another one: {'; '.join(differences)}",
            hint=f"give what it has, or more, or take it down: "
            f"vssemu lab down --name {there.name}",
            item=there.name,
        )
    places = {(volume.host, volume.letter) for volume in there.volumes}
    added = tuple(v for v in asked.volumes if (v.host, v.letter) not in places)
    _check_luns(there, added)
    return Growth(
        hosts=tuple(name for name in asked.hosts if name not in there.hosts), volumes=added
    )


def _check_luns(there: LabConfig, added: tuple[VolumeSpec, ...]) -> None:
    luns = {(volume.host, volume.lun) for volume in there.volumes if volume.lun is not None}
    for volume in added:
        if (volume.host, volume.lun) in luns:
            raise BadState(
                f"volume {volume.letter}: is to share LUN {volume.lun}, which is there already",
                hint="a LUN is made with all its volumes",
                item=f"{volume.letter}:",
            )


def _settings(there: LabConfig, asked: LabConfig) -> list[str]:
    pairs = [
        ("engine", there.engine, asked.engine),
        ("pool", there.pool or "its own", asked.pool or "its own"),
        ("chunk size", there.chunk_size or "the default", asked.chunk_size or "the default"),
        ("safety", there.safety or "the default", asked.safety or "the default"),
    ]
    return [f"{what} is {has}, not {wants}" for what, has, wants in pairs if has != wants]


def _missing(there: LabConfig, asked: LabConfig) -> list[str]:
    said = [f"it has host {name}" for name in there.hosts if name not in asked.hosts]
    wanted = {(volume.host, volume.letter): volume for volume in asked.volumes}
    for volume in there.volumes:
        name = f"{volume.letter}: of {volume.host}"
        other = wanted.get((volume.host, volume.letter))
        if other is None:
            said.append(f"it has {name}")
        elif other != volume:
            said.append(f"{name} is {_as_made(volume)}, not {_as_made(other)}")
    return said


def _as_made(volume: VolumeSpec) -> str:
    shared = f", sharing LUN {volume.lun}" if volume.lun is not None else ""
    whole = ", on a whole LUN" if volume.whole else ""
    return f"{volume.size >> 20} MiB of {volume.filesystem}{whole}{shared}"
