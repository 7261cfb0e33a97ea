"""Names and inode numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu_fuse.devicefs import names
from vssemu_fuse.devicefs.names import CopyName, View, ViewDirectory

NUMBERS = st.integers(1, names.MAX_NUMBER)
NODES = st.one_of(
    st.builds(ViewDirectory, st.sampled_from(View)),
    st.builds(CopyName, st.sampled_from(View), NUMBERS, st.integers(0, names.GENERATIONS - 1)),
)


@given(NUMBERS)
def test_a_copys_name_leads_back_to_its_number(number: int) -> None:
    assert names.parse_copy_name(names.copy_name(number).encode()) == number


@given(st.binary(max_size=40))
def test_only_names_that_we_write_are_parsed(name: bytes) -> None:
    number = names.parse_copy_name(name)
    assert number is None or names.copy_name(number).encode() == name


@pytest.mark.parametrize(
    "name",
    [
        "HarddiskVolumeShadowCopy",
        "HarddiskVolumeShadowCopy0",
        "HarddiskVolumeShadowCopy01",
        "HarddiskVolumeShadowCopy-1",
        "HarddiskVolumeShadowCopy1 ",
        "HarddiskVolumeShadowCopy\u0661",
        "harddiskvolumeshadowcopy1",
        f"HarddiskVolumeShadowCopy{names.MAX_NUMBER + 1}",
        "HarddiskVolumeShadowCopy" + "9" * 5000,
    ],
)
def test_near_misses_are_no_names(name: str) -> None:
    assert names.parse_copy_name(name.encode()) is None


@given(NODES)
def test_an_inode_number_leads_back_to_its_node(node: ViewDirectory | CopyName) -> None:
    inode = names.inode_of(node)
    assert names.node_of(inode) == node
    assert names.ROOT < inode < 1 << 63


@given(NODES, NODES)
def test_different_nodes_have_different_inode_numbers(
    one: ViewDirectory | CopyName, other: ViewDirectory | CopyName
) -> None:
    assert (names.inode_of(one) == names.inode_of(other)) == (one == other)


@given(st.integers(0, (1 << 64) - 1))
def test_any_other_inode_number_is_nobodys(inode: int) -> None:
    node = names.node_of(inode)
    assert node is None or names.inode_of(node) == inode


@pytest.mark.parametrize("number", [0, -1, names.MAX_NUMBER + 1])
def test_an_impossible_number_has_no_inode(number: int) -> None:
    with pytest.raises(ValueError, match=f"number {number} is outside"):
        names.inode_of(CopyName(View.IMAGE, number, 0))


def test_views_have_their_names() -> None:
    assert names.parse_view_name(b"RawDevice") is View.RAW_DEVICE
    assert names.parse_view_name(b"rawdevice") is None
