"""The list of copies, and what a new one changes."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu_fuse.catalog import Catalog, Surface
from vssemu_fuse.copies import CopyList, DeviceObject
from vssemu_fuse.names import CopyName, View


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


@given(st.lists(st.integers(1, 3)), st.integers(1, 3))
def test_the_kernel_knows_an_inode_until_it_gave_every_reference_back(
    lookups: list[int], inode: int
) -> None:
    catalog = Catalog()
    for each in lookups:
        catalog.count_lookup(each)
    references = lookups.count(inode)
    for left in range(references, 0, -1):
        assert left > 0
        assert catalog.is_known_to_kernel(inode)
        catalog.forget([(inode, 1)])
    assert not catalog.is_known_to_kernel(inode)


def test_facts_of_a_copy_cannot_be_changed_behind_the_catalog() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        device_object(1).number = 2  # type: ignore[misc]
