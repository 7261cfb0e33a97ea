"""What the next devicefs knows of the one that was killed."""

import os
from pathlib import Path

import pytest

from tests.unit.fuse.test_devicefs_catalog import copy_list, device_object
from vssemu.linux.fdstore import Store
from vssemu_fuse.devicefs.catalog import Catalog, Copy, Surface
from vssemu_fuse.devicefs.devices import Devices
from vssemu_fuse.devicefs.handles import Handles
from vssemu_fuse.devicefs.image import RawImage
from vssemu_fuse.devicefs.memory import Memory, Past
from vssemu_fuse.devicefs.names import View

PROPERTIES = '{"m_lSnapshotsCount": 1}'


def filled() -> Catalog:
    """Copies 1 and 2; number 2 had another owner before."""
    catalog = Catalog()
    catalog.apply(copy_list(device_object(2)), now_ns=3)
    catalog.apply(copy_list(device_object(2, minor=5)), now_ns=4)
    catalog.apply(
        copy_list(device_object(1, properties=PROPERTIES), device_object(2, minor=5), revision=6),
        now_ns=5,
    )
    return catalog


def numbered(catalog: Catalog, number: int) -> Copy:
    copy = catalog.numbered(number)
    assert copy is not None
    return copy


def successor(
    of: Catalog, path: Path, *, mounted: frozenset[int] = frozenset(), server_lives: bool = True
) -> Catalog:
    memory = Memory(path / "GLOBALROOT")
    memory.note(Past(init=b"\0init", reply=b"\xffreply", born_ns=1, catalog=of.record()))
    past = memory.recall()
    assert past is not None
    assert (past.init, past.reply, past.born_ns) == (b"\0init", b"\xffreply", 1)
    catalog = Catalog()
    catalog.restore(past.catalog, mounted=mounted, server_lives=server_lives, now=0.0)
    return catalog


def test_the_successor_gives_the_same_names_and_numbers(tmp_path: Path) -> None:
    before = filled()
    after = successor(before, tmp_path)
    assert (after.revision, after.server_pid) == (6, 99)
    for number in (1, 2):
        one, other = numbered(before, number), numbered(after, number)
        assert [one.inode(view) for view in View] == [other.inode(view) for view in View]
        assert (one.document, one.xattrs, one.born_ns) == (
            other.document,
            other.xattrs,
            other.born_ns,
        )


def test_a_number_that_is_used_again_is_new_to_the_successor_too(tmp_path: Path) -> None:
    before = filled()
    seen = {numbered(before, 2).inode(View.IMAGE)}
    before.apply(copy_list(), now_ns=6)
    after = successor(before, tmp_path)
    after.apply(copy_list(device_object(2, minor=6)), now_ns=7)
    seen.add(numbered(after, 2).inode(View.IMAGE))
    assert len(seen) == 2


def test_a_list_that_says_the_same_changes_nothing(tmp_path: Path) -> None:
    after = successor(filled(), tmp_path)
    same = copy_list(device_object(1, properties=PROPERTIES), device_object(2, minor=5))
    change = after.apply(same, now_ns=9)
    assert (change.removed, change.edited) == ([], [])


@pytest.mark.parametrize(
    ("surface", "is_mounted", "server_lives", "may_wait"),
    [
        (Surface.BARE, False, True, True),
        (Surface.BARE, False, False, False),
        (Surface.MOUNTED, True, False, True),
        # Its tree was what held it, and somebody has unmounted that.
        (Surface.MOUNTED, False, True, False),
    ],
)
def test_a_look_up_waits_for_the_successor_only_when_its_dentry_is_certain(
    tmp_path: Path, surface: Surface, is_mounted: bool, server_lives: bool, may_wait: bool
) -> None:
    before = filled()
    numbered(before, 1).is_pinned = True
    numbered(before, 1).surface = surface
    mounted = frozenset({1}) if is_mounted else frozenset[int]()
    after = successor(before, tmp_path, mounted=mounted, server_lives=server_lives)
    copy = numbered(after, 1)
    assert copy.may_wait(7, 0.0) is may_wait
    assert (copy.surface is Surface.MOUNTED) is is_mounted


def test_a_walker_that_was_told_to_walk_again_waits_for_the_successor(tmp_path: Path) -> None:
    before = filled()
    copy = numbered(before, 1)
    copy.used_bare(7, 0.0)
    copy.used_bare(8, 0.0)
    assert copy.may_wait(8, 0.0)
    copy.waiting.add(8)
    after = numbered(successor(before, tmp_path), 1)
    assert [after.may_wait(thread, 0.5) for thread in (7, 8, 9)] == [True, True, False]


@pytest.mark.parametrize("text", [None, b"", b"{}", b'{"init": 3}', b"\xff"])
def test_a_record_that_is_none_is_nothing(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "GLOBALROOT.state").write_bytes(text)
    assert Memory(tmp_path / "GLOBALROOT").recall() is None


def test_the_record_is_for_root_alone(tmp_path: Path) -> None:
    successor(filled(), tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    Memory(tmp_path / "GLOBALROOT").forget()
    assert not list(tmp_path.iterdir())


def handles(catalog: Catalog) -> Handles:
    return Handles(catalog, Devices(Store(None), {}))


def test_an_open_document_reads_on_with_the_successor(tmp_path: Path) -> None:
    before = filled()
    handle = handles(before).open_document(numbered(before, 1))
    after = handles(successor(before, tmp_path))
    assert after.get(handle) == PROPERTIES.encode()
    after.release(handle)
    assert after.get(handle) == PROPERTIES.encode()


def test_a_text_that_changed_is_kept_by_its_devicefs_and_stale_for_the_next(
    tmp_path: Path,
) -> None:
    before = filled()
    ours = handles(before)
    handle = ours.open_document(numbered(before, 1))
    before.apply(copy_list(device_object(1, properties="{}")), now_ns=6)
    assert ours.get(handle) == PROPERTIES.encode()
    with pytest.raises(OSError, match="Stale"):
        handles(successor(before, tmp_path)).get(handle)
    ours.release(handle)
    with pytest.raises(OSError, match="Stale"):
        ours.get(handle)


def test_two_copies_with_one_text_have_two_handles() -> None:
    catalog = Catalog()
    catalog.apply(copy_list(device_object(1), device_object(2)), now_ns=5)
    ours = handles(catalog)
    one, other = (ours.open_document(numbered(catalog, number)) for number in (1, 2))
    assert one != other
    catalog.apply(copy_list(device_object(2)), now_ns=6)
    assert ours.get(other) == b"{}"
    with pytest.raises(OSError, match="Stale"):
        ours.get(one)


async def test_an_image_is_read_through_the_descriptor_that_was_kept(tmp_path: Path) -> None:
    contents = os.urandom(4096)
    (tmp_path / "device").write_bytes(contents)
    kept = {"device-7-5": os.open(tmp_path / "device", os.O_RDONLY)}
    catalog = filled()
    ours = Handles(catalog, Devices(Store(None), kept))
    image = ours.get(ours.open_image(numbered(catalog, 2)))
    assert isinstance(image, RawImage)
    assert bytes(await image.read(0, 4096)) == contents
    assert not kept
    await ours.retire(numbered(catalog, 2))


def test_descriptors_that_nobody_needs_are_closed(tmp_path: Path) -> None:
    (tmp_path / "device").touch()
    kept = {"device-7-9": os.open(tmp_path / "device", os.O_RDONLY)}
    descriptor = kept["device-7-9"]
    Devices(Store(None), kept).drop_unused()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
