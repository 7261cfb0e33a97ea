"""Which volume of this host a path lies on, and how users know it. Pure."""

from collections.abc import Sequence

from vssemu.tools.windows_text import place_of
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.host import Volume
from vssemu.vss.paths import CopiedVolume, copy_of


class HostVolumes:
    """The volumes of a host by all their names."""

    def __init__(self, volumes: Sequence[Volume]) -> None:
        self._volumes = {volume.name: volume for volume in volumes}
        # The look-up of paths in shadow copies serves: a name instead of a device object.
        self._named = [
            CopiedVolume(
                names=(volume.name, *volume.letters, *volume.mount_points),
                device_object=volume.name,
            )
            for volume in volumes
        ]

    def guid_name_of(self, path: str) -> str | None:
        """Return the GUID name of the volume of a path; None for a path of none of them."""
        try:
            found = copy_of(self._named, path)
        except InvalidArgument:
            return None
        return None if found is None else found.device_object

    def shown_name_of(self, path: str) -> str | None:
        r"""Return `F:\`, a folder or the GUID name of the volume of a path; None as above."""
        name = self.guid_name_of(path)
        return None if name is None else shown(self._volumes[name])

    def named(self, name: str) -> Volume | None:
        r"""Return the volume that `F:\`, `/folder/` or a GUID name names, None without one."""
        wanted = name.rstrip("\\/").lower()
        for volume in self._volumes.values():
            names = (volume.name, *volume.letters, *volume.mount_points)
            if wanted in (each.rstrip("\\/").lower() for each in names):
                return volume
        return None


def shown(volume: Volume) -> str:
    r"""Return how users know a volume: its letter `F:\`, a folder, else its GUID name."""
    return place_of(volume) or volume.name
