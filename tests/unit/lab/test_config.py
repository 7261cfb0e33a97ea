"""Lab descriptions: what is accepted, and the one line for what is not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.lab.config import (
    LabConfig,
    VolumeSpec,
    checked,
    decode,
    encode,
    parse_volume,
    parse_volumes,
)
from vssemu.lab.description import load_toml
from vssemu.lab.volumes import luns_of
from vssemu.vss.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("F:=2G", VolumeSpec(letter="F", size=2 << 30)),
        ("f:=512M:ext4", VolumeSpec(letter="F", size=512 << 20)),
        ("G:=1GiB@systemTwo", VolumeSpec(letter="G", size=1 << 30, host="systemTwo")),
        ("F:=302M:xfs", VolumeSpec(letter="F", size=302 << 20, filesystem="xfs")),
        (
            "F:=300M:xfs:whole@x",
            VolumeSpec(letter="F", size=300 << 20, filesystem="xfs", whole=True, host="x"),
        ),
    ],
)
def test_a_volume_is_read(text: str, expected: VolumeSpec) -> None:
    assert parse_volume(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "F:",
        "F=2G",
        "FF:=2G",
        "F:=x",
        "F:=1M",
        "F:=2G:ntfs",
        "F:=16777217",
        "F:=2G:ext4:half",
        "F:=2G:whole",
        "F:=64M+G:=64M",
    ],
)
def test_a_volume_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_volume(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "needed"),
    [("F:=301M:xfs", 302), ("F:=299M:xfs:whole", 300), ("F:=13M:ext4:whole", 14)],
)
def test_a_volume_that_is_too_small_for_its_file_system_hears_what_it_needs(
    text: str, needed: int
) -> None:
    with pytest.raises(InvalidArgument, match=f"below {needed} MiB"):
        parse_volume(text)


def test_volumes_that_are_joined_share_a_lun_and_a_host() -> None:
    volumes = parse_volumes("F:=512M:ext4+G:=300M:xfs@systemOne")
    assert volumes == (
        VolumeSpec(letter="F", size=512 << 20, host="systemOne", lun="F+G"),
        VolumeSpec(letter="G", size=300 << 20, filesystem="xfs", host="systemOne", lun="F+G"),
    )
    alone = parse_volumes("H:=64M")
    assert alone == (VolumeSpec(letter="H", size=64 << 20),)
    wanted = LabConfig(hosts=("systemOne", "x"), volumes=(*volumes, *alone))
    assert decode(encode(checked(wanted))) == wanted
    assert luns_of(wanted) == [volumes, alone]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("F:=64M@a+G:=64M@b", "one LUN is of one host"),
        ("F:=64M:ext4:whole+G:=64M", "no room for another"),
        ("F:=64M+G:=299M:xfs", "below 300 MiB"),
        ("F:=64M+", "is not LETTER"),
    ],
)
def test_volumes_that_cannot_share_a_lun_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        parse_volumes(text)


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
        LabConfig(volumes=(VolumeSpec(letter="F", size=1 << 30, whole=True, lun="x"),)),
    ],
)
def test_a_wrong_configuration_is_refused(wrong: LabConfig) -> None:
    with pytest.raises(InvalidArgument):
        checked(wrong)


def test_a_lab_file_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text("name = 'x'\nvolume = []\n")
    with pytest.raises(InvalidArgument, match="volume"):
        load_toml(file)
