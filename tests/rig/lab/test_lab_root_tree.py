"""The root tree of a host is built while others make and remove files."""

import dataclasses
from pathlib import Path

import pytest

from vssemu.daemons import foreign
from vssemu.lab.root import Bind
from vssemu.linux import mount


@pytest.mark.parametrize("is_directory", [True, False])
def test_what_is_gone_before_it_is_bound_does_not_appear(
    tmp_path: Path, is_directory: bool
) -> None:
    """In /tmp a name lives shorter than the building of a tree takes."""
    Bind("no-such-name", is_directory).execute(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "removed"])
def test_a_mount_that_its_owner_unmounts_first_is_let_go_of(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "tree"
    below.mkdir()
    seen = dataclasses.replace(mount.mounts()[0], fstype="fuse", mount_point=below / name)
    monkeypatch.setattr(mount, "mounts", lambda: [seen])
    foreign.let_go(tmp_path)
