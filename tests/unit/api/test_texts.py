"""The committed interface texts say what the Python tables say."""

from pathlib import Path

import pytest

from vssemu.api.texts import DIRECTORY, texts


@pytest.mark.parametrize("path", sorted(texts()), ids=lambda p: p.name)
def test_the_text_of_an_interface_is_up_to_date(path: Path) -> None:
    assert path.read_text() == texts()[path], "run: python -m vssemu.api.texts"


def test_there_is_no_text_without_an_interface() -> None:
    assert set(DIRECTORY.glob("*")) == set(texts())
