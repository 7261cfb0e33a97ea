from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.linux import mount
from vssemu.linux.blockdev import DeviceNumber

LINE = (
    r"36 35 98:0 /a\040b /mnt/x\011y\134z rw,noatime master:1 shared:5 - ext3 "
    r"/dev/my\040root rw,errors=continue"
)


def test_a_line_is_taken_apart() -> None:
    (facts,) = mount.parse_mountinfo(LINE + "\n")
    assert facts == mount.MountFacts(
        mount_id=36,
        parent_id=35,
        device=DeviceNumber(major=98, minor=0),
        root="/a b",
        mount_point=Path("/mnt/x\ty\\z"),
        options=("rw", "noatime"),
        propagation=("master:1", "shared:5"),
        fstype="ext3",
        source="/dev/my root",
        super_options=("rw", "errors=continue"),
    )


def test_a_line_without_optional_fields_is_read() -> None:
    (facts,) = mount.parse_mountinfo("22 27 0:21 / /proc rw,relatime - proc proc rw\n")
    assert facts.propagation == ()
    assert facts.fstype == "proc"


def test_an_empty_source_is_kept() -> None:
    (facts,) = mount.parse_mountinfo("22 27 0:21 / /x rw -  - tmpfs  rw".replace(" - ", " ", 1))
    assert facts.source == ""


@pytest.mark.parametrize("line", ["", "1 2 3:4", LINE.replace(" - ", " "), LINE[:40]])
def test_a_bad_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        mount.parse_mountinfo("x" + line)


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_any_mount_point_that_the_kernel_escapes_is_restored(name: str) -> None:
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in name)
    line = f"36 35 98:0 /r{escaped} / rw - ext4 /dev/x rw"
    assert mount.parse_mountinfo(line)[0].root == "/r" + name


def test_the_own_table_is_read() -> None:
    assert any(facts.mount_point == Path("/proc") for facts in mount.mounts())
