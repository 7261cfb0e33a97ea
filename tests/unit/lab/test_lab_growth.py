"""What a lab may be given beyond what it has, and how a file describes one."""

from dataclasses import replace
from pathlib import Path

import pytest

from vssemu.lab.config import LabConfig, VolumeSpec, parse_volumes
from vssemu.lab.description import described, load_toml
from vssemu.lab.growth import Growth, grown, growth, settled
from vssemu.vss.errors import BadState, InvalidArgument

HERE = described({"hosts": ["a", "b"], "volumes": ["F:=32M", "G:=20M+H:=20M@b"]})


def volumes(*texts: str) -> tuple[VolumeSpec, ...]:
    return tuple(volume for text in texts for volume in parse_volumes(text))


def test_the_same_lab_grows_by_nothing_whatever_the_order_and_with_hosts_named() -> None:
    same = replace(HERE, hosts=("a", "b"), volumes=tuple(reversed(settled(HERE).volumes)))
    assert not growth(HERE, same)
    assert not growth(settled(HERE), HERE)


def test_it_grows_by_hosts_and_volumes_which_name_their_hosts() -> None:
    wanted = replace(HERE, hosts=("a", "c", "b"), volumes=HERE.volumes + volumes("I:=16M@c"))
    added = growth(HERE, wanted)
    assert added == Growth(hosts=("c",), volumes=volumes("I:=16M@c"))
    assert str(added) == "host c, volume I: of c"
    assert not growth(grown(HERE, added), wanted)


@pytest.mark.parametrize(
    ("other", "fact"),
    [
        (replace(HERE, engine="cow"), "engine is reflink, not cow"),
        (replace(HERE, pool="/p"), "pool is its own, not /p"),
        (replace(HERE, volumes=HERE.volumes[:1]), "it has G: of b; it has H: of b"),
        (replace(HERE, hosts=("b",), volumes=()), "it has host a; it has F: of a"),
        (
            replace(HERE, volumes=volumes("F:=32M:ext4:whole") + HERE.volumes[1:]),
            "F: of a is 32 MiB of ext4, not 32 MiB of ext4, on a whole LUN",
        ),
    ],
)
def test_every_other_difference_is_refused_and_said(other: LabConfig, fact: str) -> None:
    with pytest.raises(BadState, match="vssemu lab down") as caught:
        growth(HERE, other)
    assert fact in str(caught.value)


def test_a_lun_that_is_there_gets_no_volume_more() -> None:
    third = replace(HERE.volumes[-1], letter="I")
    with pytest.raises(BadState, match="is to share LUN"):
        growth(HERE, replace(HERE, volumes=(*HERE.volumes, third)))


def test_a_file_may_have_volumes_as_text_and_as_tables(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(
        """
        name = "x"
        pool = "pool"
        volumes = [
            "F:=32M:ext4@systemTwo",
            { letter = "g", size = "1G", filesystem = "xfs", whole = true },
            { letter = "H:", size = 20971520, host = "systemTwo", lun = "data" },
        ]
        """
    )
    assert described(load_toml(file)) == LabConfig(
        name="x",
        pool=str(tmp_path / "pool"),
        volumes=(
            VolumeSpec(letter="F", size=32 << 20, host="systemTwo"),
            VolumeSpec(letter="G", size=1 << 30, filesystem="xfs", whole=True),
            VolumeSpec(letter="H", size=20 << 20, host="systemTwo", lun="data"),
        ),
    )


@pytest.mark.parametrize(
    "volume",
    [
        {},
        {"letter": "F"},
        {"letter": "FG", "size": "1G"},
        {"letter": "F", "size": "1G", "colour": "red"},
        {"letter": "F", "size": "1X"},
        {"letter": "F", "size": "1M"},
        {"letter": "F", "size": "1G", "filesystem": "ntfs"},
        {"letter": "F", "size": "1G", "whole": True, "lun": "x"},
        17,
    ],
)
def test_a_table_that_is_no_volume_is_refused_in_one_line(volume: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        described({"volumes": [volume]})
    assert "\n" not in str(caught.value)


def test_what_is_not_given_is_as_recorded() -> None:
    recorded = replace(HERE, pool="/p")
    assert described({}, recorded) == recorded
    assert described({"volumes": []}, recorded) == replace(recorded, volumes=())
