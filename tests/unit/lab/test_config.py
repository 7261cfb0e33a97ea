"""Lab descriptions: what is accepted, and the one line for what is not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.lab import config
from vssemu.lab.config import LabConfig, VolumeSpec, checked, decode, encode, parse_volume
from vssemu.vss.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("F:=2G", VolumeSpec(letter="F", size=2 << 30)),
        ("f:=512M:ext4", VolumeSpec(letter="F", size=512 << 20)),
        ("G:=1GiB@systemTwo", VolumeSpec(letter="G", size=1 << 30, host="systemTwo")),
    ],
)
def test_a_volume_is_read(text: str, expected: VolumeSpec) -> None:
    assert parse_volume(text) == expected


@pytest.mark.parametrize(
    "text", ["F:", "F=2G", "FF:=2G", "F:=x", "F:=1M", "F:=2G:ntfs", "F:=16777217"]
)
def test_a_volume_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_volume(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_no_text_but_a_volume_or_a_refusal(text: str) -> None:
    try:
        parse_volume(text)
    except InvalidArgument as error:
        assert error.fact  # noqa: PT017


def test_a_configuration_survives_its_file() -> None:
    one = LabConfig(name="x", volumes=(parse_volume("F:=64M"),), pool="/p")
    assert decode(encode(one)) == one


def test_a_spoilt_file_says_what_to_do() -> None:
    with pytest.raises(InvalidArgument, match="--force"):
        decode(b"{")


@pytest.mark.parametrize(
    "wrong",
    [
        LabConfig(name="../x"),
        LabConfig(hosts=()),
        LabConfig(hosts=("a", "a")),
        LabConfig(engine="cow2"),
        LabConfig(pool="relative"),
        LabConfig(volumes=(VolumeSpec(letter="F", size=1 << 30, host="nobody"),)),
        LabConfig(volumes=(VolumeSpec(letter="F", size=1 << 30),) * 2),
    ],
)
def test_a_wrong_configuration_is_refused(wrong: LabConfig) -> None:
    with pytest.raises(InvalidArgument):
        checked(wrong)


def test_a_lab_file_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text("name = 'x'\nvolume = []\n")
    with pytest.raises(InvalidArgument, match="volume"):
        config.load_toml(file)
