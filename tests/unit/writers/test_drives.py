from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.vss.drives import lies_on, linux_path, windows_path
from vssemu.vss.errors import InvalidArgument


@pytest.mark.parametrize(
    ("windows", "linux"),
    [
        ("F:\\", "/mnt/F"),
        ("f:\\data\\a.db", "/mnt/F/data/a.db"),
        ("F:/data//a.db", "/mnt/F/data/a.db"),
        ("F:", "/mnt/F"),
        ("/srv/data/", "/srv/data"),
    ],
)
def test_a_windows_path_lies_below_its_drive_letter(windows: Any, linux: Any) -> None:
    assert str(linux_path(windows)) == linux


@pytest.mark.parametrize(
    ("linux", "windows"),
    [
        ("/mnt/F", "F:\\"),
        ("/mnt/F/data/a.db", "F:\\data\\a.db"),
        ("/mnt/f/data", "/mnt/f/data"),
        ("/mnt", "/mnt"),
        ("/srv//data", "/srv/data"),
        ("/mnt/F/odd\\name", "/mnt/F/odd\\name"),
        ("f:/data", "F:\\data"),
    ],
)
def test_a_linux_path_below_a_drive_letter_becomes_a_windows_path(
    linux: Any, windows: Any
) -> None:
    assert windows_path(linux) == windows


@pytest.mark.parametrize(
    "path",
    ["data", "..", "F:data", "F:\\..\\x", "/mnt/F/../x", "\\\\?\\Volume{1}\\a", "", "/a\0b"],
)
def test_a_path_that_is_not_absolute_is_refused_by_name(path: str) -> None:
    with pytest.raises(InvalidArgument, match="not an absolute path"):
        linux_path(path)


_PART = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1)


@given(
    letter=st.sampled_from("ABFZ"), parts=st.lists(_PART.filter(lambda p: p not in {".", ".."}))
)
def test_the_mapping_goes_both_ways(letter: Any, parts: Any) -> None:
    windows = f"{letter}:\\" + "\\".join(parts)
    assert windows_path(str(linux_path(windows))) == windows


def test_a_path_lies_on_the_volume_that_it_is_below() -> None:
    assert lies_on("F:\\data", ["E:\\", "F:\\"]) is True
    assert lies_on("/mnt/F/data", ["F:\\"]) is True
    assert lies_on("/srv/a", ["/srv/"]) is True
    assert lies_on("/srvx/a", ["/srv/"]) is False
    assert lies_on("F:\\data", ["E:\\"]) is False


def test_a_volume_guid_name_tells_nothing_about_paths() -> None:
    guid = "\\\\?\\Volume{00000000-0000-0000-0000-000000000000}\\"
    assert lies_on("F:\\data", [guid]) is None
    assert lies_on("F:\\data", []) is None
    assert lies_on("F:\\data", [guid, "F:\\"]) is True
    assert lies_on("F:\\data", [guid, "E:\\"]) is False
