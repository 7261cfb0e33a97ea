"""The list of copies, and what a new one changes."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu_fuse.devicefs.catalog import Catalog, Copy, Surface
from vssemu_fuse.devicefs.copies import CopyList, DeviceObject
from vssemu_fuse.devicefs.names import CopyName, View
from vssemu_fuse.devicefs.walkers import Recent


def device_object(number: int, *, minor: int = 0, properties: str = "{}") -> DeviceObject:
    return DeviceObject(
        number=number, size=4096, raw_major=7, raw_minor=minor, properties=properties
    )


def copy_list(*copies: DeviceObject, revision: int = 1) -> CopyList:
    return CopyList(revision=revision, server_pid=99, copies=list(copies))


def numbers(catalog: Catalog) -> list[int]:
    return [each.facts.number for each in catalog.after(0)]


def test_the_first_list_removes_nothing() -> None:
    catalog = Catalog()
    change = catalog.apply(copy_list(device_object(2), device_object(1)), now_ns=5)
    assert (change.removed, change.edited) == ([], [])
    assert numbers(catalog) == [1, 2]
    assert (catalog.revision, catalog.server_pid) == (1, 99)


def test_a_copy_that_stays_keeps_what_is_known_of_it() -> None:
    catalog = Catalog()
    catalog.apply(copy_list(device_object(1)), now_ns=5)
    before = catalog.numbered(1)
    assert before is not None
    before.surface = Surface.MOUNTED
    change = catalog.apply(copy_list(device_object(1), device_object(2)), now_ns=6)
    assert catalog.numbered(1) is before
    assert (change.removed, change.edited) == ([], [])


def test_new_properties_are_an_edit() -> None:
    catalog = Catalog()
    catalog.apply(copy_list(device_object(1)), now_ns=5)
    change = catalog.apply(copy_list(device_object(1, properties='{"a": "b"}')), now_ns=6)
    copy = catalog.numbered(1)
    assert copy is not None
    assert change.edited == [copy]
    assert copy.document == b'{"a": "b"}'
    assert copy.xattrs == {b"user.vss.a": b"b"}


def test_another_raw_device_is_another_copy() -> None:
    catalog = Catalog()
    catalog.apply(copy_list(device_object(1)), now_ns=5)
    before = catalog.numbered(1)
    assert before is not None
    change = catalog.apply(copy_list(device_object(1, minor=3)), now_ns=6)
    after = catalog.numbered(1)
    assert after is not None
    assert change.removed == [before]
    assert after.inode(View.IMAGE) != before.inode(View.IMAGE)
    assert catalog.named(CopyName(View.IMAGE, 1, before.generation)) is None
    assert catalog.named(CopyName(View.IMAGE, 1, after.generation)) is after


def test_the_same_first_list_gives_the_same_inode_numbers() -> None:
    inodes = []
    for _ in range(2):
        catalog = Catalog()
        catalog.apply(copy_list(device_object(7)), now_ns=5)
        copy = catalog.numbered(7)
        assert copy is not None
        inodes.append([copy.inode(view) for view in View])
    assert inodes[0] == inodes[1]


@pytest.mark.parametrize("bad", [[0], [-1], [1 << 40], [3, 3]])
def test_an_impossible_list_changes_nothing(bad: list[int]) -> None:
    catalog = Catalog()
    catalog.apply(copy_list(device_object(1)), now_ns=5)
    with pytest.raises(ValueError, match="impossible or occurs twice"):
        catalog.apply(copy_list(*map(device_object, bad), revision=2), now_ns=6)
    assert numbers(catalog) == [1]
    assert catalog.revision == 1


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ("not json", {}),
        ("[1]", {}),
        ('{"text": "é", "number": 3, "none": null, "yes": true, "list": ["a"]}',
         {"text": "é", "number": "3", "none": "null", "yes": "true", "list": '["a"]'}),
    ],
)  # fmt: skip
def test_members_become_extended_attributes(properties: str, expected: dict[str, str]) -> None:
    catalog = Catalog()
    catalog.apply(copy_list(device_object(1, properties=properties)), now_ns=5)
    copy = catalog.numbered(1)
    assert copy is not None
    assert copy.xattrs == {
        f"user.vss.{name}".encode(): value.encode() for name, value in expected.items()
    }
    assert copy.document == properties.encode()


@given(st.lists(st.frozensets(st.integers(1, 6)), max_size=12))
def test_names_and_removals_follow_the_lists(lists: list[frozenset[int]]) -> None:
    catalog = Catalog()
    alive: dict[int, int] = {}
    for wanted in lists:
        change = catalog.apply(copy_list(*map(device_object, wanted)), now_ns=0)
        assert {each.facts.number for each in change.removed} == alive.keys() - wanted
        generations = {each.facts.number: each.generation for each in catalog.after(0)}
        assert generations.keys() == wanted
        for number in wanted & alive.keys():
            assert generations[number] == alive[number]
        alive = generations


def copy_of(catalog: Catalog) -> Copy:
    catalog.apply(copy_list(device_object(1)), now_ns=0)
    copy = catalog.numbered(1)
    assert copy is not None
    return copy


def test_a_look_up_waits_only_when_it_cannot_be_fresh() -> None:
    copy = copy_of(Catalog())
    assert not copy.may_wait(10, 100.0)
    copy.used_bare(10, 100.0)
    assert not copy.may_wait(11, 100.0)
    assert copy.may_wait(10, 100.5)
    assert not copy.may_wait(10, 100.5), "good for one look-up"
    copy.used_bare(10, 100.0)
    assert not copy.may_wait(10, 102.0), "too late to be the same walk"
    copy.is_pinned = True
    assert copy.may_wait(12, 100.0)


def test_a_walker_on_his_way_when_the_tree_came_does_not_make_it_lost() -> None:
    copy = copy_of(Catalog())
    copy.answered_bare(10, 100.0)
    copy.mounted()
    copy.used_bare(10, 100.1)
    assert copy.surface is Surface.MOUNTED
    copy.used_bare(10, 100.2)
    assert copy.surface is not Surface.MOUNTED


def test_what_a_service_pinned_goes_with_it() -> None:
    catalog = Catalog()
    copy = copy_of(catalog)
    copy.is_pinned = True
    catalog.apply(copy_list(device_object(1)), now_ns=0)
    assert copy.is_pinned
    successor = CopyList(revision=2, server_pid=100, copies=[device_object(1)])
    catalog.apply(successor, now_ns=0)
    assert catalog.numbered(1) is copy
    assert not copy.is_pinned


def test_a_tree_that_failed_is_no_longer_pinned_and_news_is_told_once() -> None:
    copy = copy_of(Catalog())
    copy.is_pinned = True
    assert copy.failed("a reason")
    assert not copy.is_pinned
    assert not copy.failed("a reason")
    assert copy.failed("another")
    copy.mounted()
    assert copy.failed("another")


def test_threads_that_never_come_back_are_forgotten() -> None:
    recent = Recent()
    for thread in range(5000):
        recent.note(thread, thread / 100)
    assert not recent.take(0, 50.0)
    assert recent.take(4999, 50.0)
    assert len(recent) <= 1024


def test_facts_of_a_copy_cannot_be_changed_behind_the_catalog() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        device_object(1).number = 2  # type: ignore[misc]
