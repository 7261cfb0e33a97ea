"""Volumes of every shape: xfs and ext4, in partitions and on whole LUNs, several on one LUN."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.labrig import (
    MIB,
    ONE,
    PERSISTENT,
    TWO,
    Created,
    Rig,
    create,
    digest,
    eventually,
    fill,
    import_set,
)
from vssemu import BackupComponents, Context, ObjectType
from vssemu.api import array as array_api
from vssemu.api import disks
from vssemu.lab.config import LabConfig, parse_volumes
from vssemu.lab.volumes import provide
from vssemu.vss.array import LunState
from vssemu.vss.errors import BadState, VssError
from vssemu.vss.host import SHADOW_FLAGS, Disk, GptFlags, Volume
from vssemu.vss.identity import Initiator, LunId, SnapshotId

LETTERS = "FGHIJ"
VOLUMES = tuple(f"{letter}:\\" for letter in LETTERS)

LOG = 64
"""MiB that the log of a small xfs takes, which df does not count."""

_WRITER = """
import itertools, mmap, os, sys
flags = os.O_WRONLY | os.O_CREAT | os.O_DIRECT
files = [os.open(f"/mnt/{x}/counter", flags) for x in sys.argv[1]]
block = mmap.mmap(-1, 4096)
for number in itertools.count(1):
    block[:12] = b"%012d" % number
    for fd in files:
        os.pwritev(fd, [block], 0)
    if number == 1:
        os.sync()
    if number == 20:
        print(flush=True)
"""
"""Writes a growing number to one volume after the other, past the caches: many in the time
that a clone takes."""


@pytest.fixture(scope="module")
def mixed(labs: Labs) -> Iterator[Rig]:
    """A lab with an xfs in a partition, xfs and ext4 on whole LUNs, ext4 and xfs on one LUN."""
    rig = labs.new()
    try:
        rig.up("F:=310M:xfs", "G:=300M:xfs:whole", "H:=64M:ext4:whole", "I:=64M+J:=300M:xfs")
        for letter in LETTERS:
            fill(rig.path(ONE, f"/mnt/{letter}/data"), files=8)
        yield rig
    finally:
        rig.down()


@pytest.fixture(autouse=True)
def _no_lun_is_left(mixed: Rig) -> Iterator[None]:
    before = mixed.lun_ids()
    yield
    eventually(lambda: mixed.lun_ids() == before)


def at(rig: Rig, host: str, letter: str) -> Volume:
    """Return the volume at a letter."""
    (found,) = [v for v in rig.volumes(host) if f"{letter}:\\" in v.letters]
    return found


def lun_of(rig: Rig, letter: str) -> LunId:
    return at(rig, ONE, letter).luns[0].lun_id


def originals(rig: Rig) -> dict[str, dict[str, str]]:
    return {letter: digest(rig.path(ONE, f"/mnt/{letter}/data")) for letter in LETTERS}


def copies_on(rig: Rig, host: str, made: Created) -> dict[str, Path]:
    """Return the root of each copy by the letter of its original."""
    with rig.backup(host) as backup:
        backup.initialize_for_backup()
        backup.set_context(Context.ALL)
        return {
            name[0]: rig.path(host, backup.get_snapshot_properties(copy).device_object)
            for name, copy in made.copies.items()
        }


def imported(rig: Rig, *volumes: str, host: str = TWO) -> Created:
    """Create a persistent set of volumes of systemOne and import it on a host."""
    with rig.backup(ONE) as creator:
        made = create(creator, *volumes, context=PERSISTENT)
        document = creator.save_as_xml()
    with rig.backup(host) as importer:
        import_set(importer, document)
    return made


def delete_set(rig: Rig, host: str, made: Created) -> None:
    with rig.backup(host) as backup:
        backup.initialize_for_backup()
        backup.delete_snapshots(SnapshotId(made.set_id), ObjectType.SNAPSHOT_SET, False)


def copied_luns(rig: Rig, host: str) -> list[LunId]:
    """Return the copies that a host sees, in the order of their making."""
    return [
        lun.id
        for lun in rig.inventory()
        if lun.origin is not None and Initiator(host) in lun.masked_to
    ]


def give_back(rig: Rig, host: str, *luns: LunId) -> None:
    """Take broken LUNs from a host and delete them."""
    with rig.lab.array() as array, rig.vss(host) as vss:
        for lun in luns:
            vss.client.call(disks.mask, lun)
            array.call(array_api.delete_lun, lun)


@contextmanager
def counting(rig: Rig) -> Iterator[None]:
    """Run the writer during the block, after it has come round some times."""
    argv = [sys.executable, "-c", _WRITER, LETTERS]
    with rig.running(ONE, *argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield


def test_a_set_of_five_volumes_on_four_luns_is_one_instant(mixed: Rig) -> None:
    """All are frozen before the first clone and until after the last.

    So the numbers that a program writes to one after the other are equal, or one less from
    some volume on.
    """
    frozen = originals(mixed)
    before = mixed.lun_ids()
    with counting(mixed):
        made = imported(mixed, *VOLUMES)
    _assert_held_throughout(mixed)
    assert len(mixed.lun_ids() - before) == 4
    trees = copies_on(mixed, TWO, made)
    assert {letter: digest(tree / "data") for letter, tree in trees.items()} == frozen
    numbers = [int((trees[letter] / "counter").read_bytes()[:12]) for letter in LETTERS]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] - numbers[-1] <= 1
    assert [v.flags for v in mixed.volumes(TWO)] == [SHADOW_FLAGS] * 5
    assert [v.flags for v in mixed.volumes(ONE)] == [GptFlags.NONE] * 5
    delete_set(mixed, TWO, made)
    for letter in LETTERS:
        mixed.path(ONE, f"/mnt/{letter}/counter").unlink()


def _assert_held_throughout(rig: Rig) -> None:
    trace = json.loads(rig.run(ONE, "vssemu", "trace", "--json"))
    (commit,) = [phase for phase in trace["phases"] if phase["name"] == "commit_snapshots"]
    (hold,) = trace["holds"]
    assert {each["volume"] for each in hold["volumes"]} == {v.name for v in rig.volumes(ONE)}
    for each in hold["volumes"]:
        assert each["frozen"] <= commit["start"]
        assert each["thawed"] >= commit["start"] + commit["seconds"]


def test_a_lun_stays_until_the_last_copy_on_it_is_deleted(mixed: Rig) -> None:
    frozen = originals(mixed)
    made = imported(mixed, "I:\\", "J:\\")
    (lun,) = copied_luns(mixed, TWO)
    first, second = made.copies.values()
    trees = copies_on(mixed, TWO, made)
    with mixed.backup(TWO) as backup:
        backup.initialize_for_backup()
        backup.delete_snapshots(first, ObjectType.SNAPSHOT, False)
        assert not trees["I"].exists()
        assert digest(trees["J"] / "data") == frozen["J"]
        assert copied_luns(mixed, TWO) == [lun]
    mixed.restart_vssd(TWO)
    eventually(lambda: trees["J"].exists())
    assert digest(trees["J"] / "data") == frozen["J"]
    assert not trees["I"].exists()
    with mixed.backup(TWO) as backup, mixed.vss(TWO) as vss:
        gone = next(v for v in mixed.volumes(TWO) if v.filesystem == "ext4")
        with pytest.raises(BadState, match="belongs to a shadow copy"):
            vss.client.call(disks.make_read_write, gone.name)
        backup.initialize_for_backup()
        backup.delete_snapshots(second, ObjectType.SNAPSHOT, False)
    assert copied_luns(mixed, TWO) == []


def test_a_volume_that_came_along_with_a_copy_is_neither_a_volume_nor_a_copy(mixed: Rig) -> None:
    """Of the two volumes of a LUN, J: alone is in the set; breaking it leaves I: hidden."""
    made = imported(mixed, "J:\\")
    (lun,) = copied_luns(mixed, TWO)
    (disk,) = _listed_disks(mixed, TWO)
    along, copied = [v for v in mixed.volumes(TWO) if v.name in disk.volumes]
    assert (along.filesystem, copied.filesystem) == ("ext4", "xfs")
    assert GptFlags.SHADOW_COPY in GptFlags(along.flags)
    assert not along.mount_points
    assert mixed.run(TWO, "vssadmin", "list", "volumes").count("Volume{") == 0
    assert mixed.run(TWO, "vssadmin", "list", "shadows").count("Shadow Copy ID") == 1
    with mixed.vss(TWO) as vss, mixed.backup(TWO) as backup:
        with pytest.raises(BadState, match="belongs to a shadow copy"):
            vss.client.call(disks.make_read_write, along.name)
        with pytest.raises(BadState, match="belongs to a shadow copy"):
            vss.client.call(disks.add_access_path, along.name, "X:\\")
        with pytest.raises(VssError):
            _add(backup, along.name)
        with mixed.backup(TWO) as breaker:
            breaker.initialize_for_backup()
            breaker.break_snapshot_set(made.set_id)
        assert [v.name for v in mixed.volumes(TWO) if not v.flags & GptFlags.HIDDEN] == [
            copied.name
        ]
        vss.client.call(disks.make_read_write, along.name)
        vss.client.call(disks.add_access_path, along.name, "X:\\")
    assert digest(mixed.path(TWO, "/mnt/X/data")) == originals(mixed)["I"]
    give_back(mixed, TWO, lun)


def _listed_disks(rig: Rig, host: str) -> list[Disk]:
    with rig.vss(host) as vss:
        return vss.client.call(disks.list_disks)


def _add(backup: BackupComponents, name: str) -> None:
    backup.initialize_for_backup()
    backup.set_context(PERSISTENT)
    backup.start_snapshot_set()
    backup.add_to_snapshot_set(name)


@pytest.mark.parametrize("host", [ONE, TWO], ids=["beside the originals", "elsewhere"])
def test_broken_volumes_of_every_shape_are_read_then_written(mixed: Rig, host: str) -> None:
    """Read-only first, which needs a log replayed, then read/write, each at its own letter."""
    frozen = originals(mixed)
    made = imported(mixed, *VOLUMES, host=host)
    luns = copied_luns(mixed, host)
    kept = {v.name for v in mixed.volumes(host) if v.mount_points}
    with mixed.backup(host) as backup:
        backup.initialize_for_backup()
        backup.break_snapshot_set(made.set_id)
    assert {lun.state for lun in mixed.inventory() if lun.id in luns} == {LunState.INDEPENDENT}
    broken = [v for v in mixed.volumes(host) if v.luns[0].lun_id in luns]
    assert len({v.guid for v in broken} | kept) == 5 + len(kept)
    assert [GptFlags(v.flags) for v in broken] == [GptFlags.READ_ONLY] * 5
    with mixed.vss(host) as vss:
        for letter, volume in zip("PQRST", broken, strict=True):
            vss.client.call(disks.add_access_path, volume.name, f"{letter}:\\")
            root = mixed.path(host, f"/mnt/{letter}")
            assert digest(root / "data") in frozen.values()
            with pytest.raises(OSError, match="Read-only"):
                (root / "new").touch()
            vss.client.call(disks.make_read_write, volume.name)
            (root / "new").write_text("written")
    found = [digest(mixed.path(host, f"/mnt/{letter}/data")) for letter in "PQRST"]
    assert sorted(map(repr, found)) == sorted(map(repr, frozen.values()))
    assert originals(mixed) == frozen
    give_back(mixed, host, *luns)


def test_copies_of_every_shape_outlive_restarts_of_service_array_and_host(mixed: Rig) -> None:
    frozen = originals(mixed)
    made = imported(mixed, *VOLUMES)
    names = {v.name: v.letters for v in mixed.volumes(ONE)}

    def check() -> None:
        eventually(lambda: {v.name: v.letters for v in mixed.volumes(ONE)} == names)
        trees = copies_on(mixed, TWO, made)
        assert {letter: digest(tree / "data") for letter, tree in trees.items()} == frozen
        assert originals(mixed) == frozen

    for host in (ONE, TWO):
        mixed.restart_vssd(host)
    check()
    mixed.restart_arrayd()
    mixed.rescan(ONE)
    check()
    freeze = f"for x in {' '.join(LETTERS)}; do fsfreeze -f /mnt/$x; done"
    mixed.run(ONE, "sh", "-c", freeze)
    for host in (ONE, TWO):
        mixed.lab.power_off(host)
        mixed.lab.start(host)
    check()
    for letter in LETTERS:
        mixed.assert_writable(ONE, letter)
    delete_set(mixed, TWO, made)


def test_flags_of_a_whole_lun_go_with_it_to_another_host(mixed: Rig) -> None:
    """A broken LUN is handed on: the file system arrives read-only, as it was left."""
    made = imported(mixed, "G:\\")
    (lun,) = copied_luns(mixed, TWO)
    with mixed.backup(TWO) as backup:
        backup.initialize_for_backup()
        backup.break_snapshot_set(made.set_id)
    (there,) = mixed.volumes(TWO)
    with mixed.vss(TWO) as vss:
        vss.client.call(disks.mask, lun)
        vss.client.call(disks.unmask, lun, Initiator(ONE))
    mixed.rescan(ONE)
    (here,) = [v for v in mixed.volumes(ONE) if v.luns[0].lun_id == lun]
    assert (here.name, here.flags) == (there.name, int(GptFlags.READ_ONLY))
    assert here.guid != at(mixed, ONE, "G").guid
    give_back(mixed, ONE, lun)


def test_volumes_grow_with_their_luns_and_room_is_used(mixed: Rig) -> None:
    with mixed.lab.array() as array:
        sizes = {each.id: each.size for each in mixed.inventory()}
        for letter in "GHI":
            lun = lun_of(mixed, letter)
            array.call(array_api.extend_lun, lun, sizes[lun] + 64 * MIB)
    mixed.rescan(ONE)
    assert at(mixed, ONE, "G").size == 364 * MIB
    mixed.run(ONE, "xfs_growfs", "/mnt/G")
    grown = mixed.run(ONE, "df", "-BM", "--output=size", "/mnt/G").split()[1]
    assert 300 - LOG < int(grown.rstrip("M")) <= 364 - LOG
    # resize2fs on line wants CAP_SYS_RESOURCE, which a machine in a container may lack.
    device = f"/dev/vss/by-id/{lun_of(mixed, 'H')}"
    assert mixed.run(ONE, "blockdev", "--getsize64", device).strip() == str(128 * MIB)
    assert at(mixed, ONE, "I").size == 64 * MIB
    lun = lun_of(mixed, "I")
    mixed.run(ONE, "vssemu", "vds", "create-volume", lun, "--size", "32M", "--letter", "K")
    mixed.assert_writable(ONE, "K")
    assert [v.size for v in mixed.volumes(ONE) if v.luns[0].lun_id == lun] == [
        64 * MIB,
        300 * MIB,
        32 * MIB,
    ]
    done = mixed.exec(ONE, "vssemu", "vds", "create-volume", lun, "--size", "64M")
    assert (done.returncode, "room for" in done.stderr) == (1, True)
    mixed.restart_vssd(ONE)
    assert at(mixed, ONE, "G").size == 364 * MIB
    assert at(mixed, ONE, "K").luns[0].lun_id == lun


def test_a_kept_pool_gives_joined_volumes_back(labs: Labs) -> None:
    rig = labs.new(pool=True)
    shapes = ("F:=32M+G:=32M", "H:=32M:ext4:whole")
    try:
        rig.up(*shapes, hosts=(ONE,))
        for letter in "FGH":
            rig.path(ONE, f"/mnt/{letter}/name").write_text(letter)
        others = LabConfig(volumes=parse_volumes("G:=32M+I:=32M"))
        with pytest.raises(BadState, match="G and I"):
            provide(rig.lab.known, others)
        rig.down()
        rig.up(*shapes, hosts=(ONE,))
        for letter in "FGH":
            assert rig.path(ONE, f"/mnt/{letter}/name").read_text() == letter
        assert len(rig.inventory()) == 2
    finally:
        rig.down()
