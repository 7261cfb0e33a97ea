"""The engines of a lab: what each lets the supervisor start, and what a pool says of its own."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from vssemu.array import leftovers
from vssemu.lab import hosts
from vssemu.lab.config import ENGINES, LabConfig
from vssemu.lab.paths import LabPaths
from vssemu.tools.main import main

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
