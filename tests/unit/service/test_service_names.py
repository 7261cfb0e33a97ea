"""The names by which writers are told of a volume."""

from uuid import UUID

import pytest

from vssemu.service.creation import names_of
from vssemu.vss.host import Volume
from vssemu.vss.identity import volume_guid_name

GUID = UUID("4c1d0e6f-8b41-4b2d-8c66-1e3c8d2f0a12")
NAME = volume_guid_name(GUID)


@pytest.mark.parametrize(
    ("letters", "mount_points", "names"),
    [
        (("F:\\",), ("/mnt/F",), ("F:\\",)),
        (("F:\\",), ("/mnt/F", "/srv/data"), ("F:\\", "/srv/data")),
        ((), ("/srv/data",), ("/srv/data",)),
        ((), (), (NAME,)),
    ],
)
def test_a_volume_is_named_by_letters_and_folders_else_by_its_guid(
    letters: tuple[str, ...], mount_points: tuple[str, ...], names: tuple[str, ...]
) -> None:
    volume = Volume(
        guid=GUID,
        name=NAME,
        letters=letters,
        mount_points=mount_points,
        filesystem="ext4",
        label=None,
        size=1 << 20,
        flags=0,
        luns=(),
    )
    assert names_of(volume) == names
