"""`vssemu.connect(lab=, host=)`: a program outside the hosts, as a test of a backup is."""

import pytest

import vssemu
import vssemu.trio
from tests.rig.lab.labrig import ONE, THREE, TWO, Rig, create
from vssemu.vss.errors import VssError


def test_two_hosts_are_reached_from_one_program(lab: Rig) -> None:
    with (
        vssemu.connect(lab=lab.name, host=ONE) as one,
        vssemu.connect(lab=lab.name, host=TWO) as two,
        one.backup_components() as creator,
        two.backup_components() as importer,
    ):
        made = create(creator)
        importer.initialize_for_backup(creator.save_as_xml())
        importer.set_context(vssemu.Context.ALL)
        importer.import_snapshots()
        (found,) = importer.query()
        assert found.snapshot_id == made.copy


async def test_the_trio_client_reaches_a_host_alike(lab: Rig) -> None:
    async with (
        vssemu.trio.connect(lab=lab.name, host=TWO) as vss,
        vss.backup_components() as backup,
    ):
        await backup.initialize_for_backup()
        await backup.set_context(0xFFFFFFFF)
        assert await backup.query() == []


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        ({"lab": "no-such-lab", "host": ONE}, "VSS_E_OBJECT_NOT_FOUND", "lab up"),
        ({"lab": "../x", "host": ONE}, "E_INVALIDARG", "../x"),
        ({"host": "nobody"}, "VSS_E_OBJECT_NOT_FOUND", "nobody"),
        ({"host": None}, "E_INVALIDARG", ONE),
        ({"host": ONE, "path": "/run/vssemu/vss.sock"}, "E_INVALIDARG", "give one"),
    ],
)
def test_what_cannot_be_reached_is_said(
    lab: Rig, arguments: dict[str, str], code: str, hint: str
) -> None:
    with pytest.raises(VssError) as caught:
        vssemu.connect(**{"lab": lab.name, **arguments})
    assert code in str(caught.value)
    assert hint in str(caught.value)
    with pytest.raises(VssError, match=code):
        vssemu.trio.connect(**{"lab": lab.name, **arguments})


def test_a_host_that_is_off_is_said(lab: Rig) -> None:
    lab.lab.power_off(THREE)
    try:
        with pytest.raises(VssError, match=f"vssemu lab start {THREE} --name {lab.name}"):
            vssemu.connect(lab=lab.name, host=THREE)
    finally:
        lab.lab.start(THREE)
    with vssemu.connect(lab=lab.name, host=THREE) as vss:
        vss.backup_components().release()
