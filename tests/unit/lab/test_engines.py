"""The engines of a lab: what each lets the supervisor start, and what a pool says of its own."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from vssemu.array import leftovers
from vssemu.lab import hosts
from vssemu.lab.config import ENGINES, LabConfig
from vssemu.lab.description import described
from vssemu.lab.growth import growth
from vssemu.lab.paths import LabPaths
from vssemu.tools.main import main
from vssemu.vss.errors import BadState, InvalidArgument

PATHS = LabPaths(name="x")
GROUP = Path("/group")


def table(engine: str) -> dict[str, dict[str, object]]:
    config = LabConfig(name="x", engine=engine)
    return {each["name"]: each for each in hosts.outside_table(config, PATHS, GROUP)["services"]}


def test_only_the_cow_engine_has_shards_and_the_array_waits_for_all_of_them() -> None:
    plain, cow = table("reflink"), table("cow")
    shards = cow.keys() - plain.keys()
    assert shards == {name for name in cow if hosts.is_shard(name)}
    assert 1 <= len(shards) <= hosts.MOST_SHARDS
    assert set(cow["arrayd"]["after"]) == shards  # type: ignore[call-overload]
    assert not plain["arrayd"]["after"]
    for number, name in enumerate(sorted(shards)):
        argv = cow[name]["argv"]
        assert isinstance(argv, list)
        at = argv.index("--number")
        assert argv[at : at + 4] == ["--number", str(number), "--socket",
                                     f"/run/vssemu/lab/x/lunfs/{name}.sock"]  # fmt: skip
        assert cow[name]["descriptors"], "its connection outlives it"
        assert not cow[name].get("dies_with_me"), "hosts still write when the supervisor ends"


@pytest.mark.parametrize("processors", [1, 3, 64])
def test_a_processor_has_a_shard_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    assert len(hosts.shard_names(LabConfig(engine="cow"))) == min(processors, hosts.MOST_SHARDS)


@pytest.mark.parametrize(
    ("mark", "engine"),
    [("1f\ncow\n", "cow"), ("1f\nreflink\n", "reflink"), ("1f\n", "reflink"), ("", None)],
)
def test_a_pool_says_which_engine_it_is_of(tmp_path: Path, mark: str, engine: str | None) -> None:
    assert leftovers.engine(tmp_path) is None
    (tmp_path / "owner").write_text(mark)
    assert leftovers.engine(tmp_path) == engine


def test_help_and_completion_tell_what_each_engine_is() -> None:
    told = " ".join(CliRunner().invoke(main, ["lab", "up", "--help"]).output.split())
    asked = {"_VSSEMU_COMPLETE": "zsh_complete", "COMP_CWORD": "4"}
    words = {"COMP_WORDS": "vssemu lab up --engine "}
    offered = CliRunner().invoke(main, [], prog_name="vssemu", env=asked | words).output
    for name, text in ENGINES.items():
        assert f"{name} {text}" in told
        assert f"plain\n{name}\n{text}\n" in offered


def test_the_settings_of_the_cow_engine_reach_its_shards_alone() -> None:
    config = described({"name": "x", "engine": "cow", "chunk_size": "64K", "safety": "process"})
    for service in hosts.outside_table(config, PATHS, GROUP)["services"]:
        words = " ".join(service["argv"])
        is_there = "--chunk-size 65536 --safety process" in words
        assert is_there == hosts.is_shard(service["name"]), service["name"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"chunk_size": "64K"}, "the engine reflink has no chunk size"),
        ({"safety": "power"}, "the engine reflink has no safety"),
        ({"engine": "cow", "chunk_size": "5K"}, "not a power of two"),
        ({"engine": "cow", "chunk_size": "2M"}, "not a power of two from 4096 to 1048576"),
        ({"engine": "cow", "safety": "none"}, "safety 'none' is not known"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        described({"name": "x", **fields})


def test_a_lab_keeps_the_settings_that_it_was_made_with() -> None:
    before = described({"name": "x", "engine": "cow", "chunk_size": "64K"})
    assert described({"name": "x"}, before) == before
    other = described({"name": "x", "chunk_size": "16K"}, before)
    with pytest.raises(BadState, match="chunk size is 65536, not 16384"):
        growth(before, other)
