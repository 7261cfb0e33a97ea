"""The root tree of a host is built while others make and remove files."""

from pathlib import Path

import pytest

from vssemu.lab.root import Bind


@pytest.mark.parametrize("is_directory", [True, False])
def test_what_is_gone_before_it_is_bound_does_not_appear(
    tmp_path: Path, is_directory: bool
) -> None:
    """In /tmp a name lives shorter than the building of a tree takes."""
    Bind("no-such-name", is_directory).execute(tmp_path)
    assert list(tmp_path.iterdir()) == []
