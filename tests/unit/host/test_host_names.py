"""Names of volumes and the places they mean."""

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.host.names import AccessPath, access_path, volume_reference
from vssemu.vss.errors import InvalidArgument, ObjectNotFound
from vssemu.vss.identity import volume_guid_name

MNT = Path("/mnt")
LETTERS = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@given(LETTERS)
def test_a_letter_is_the_same_place_however_it_is_written(letter: str) -> None:
    place = AccessPath(f"{letter}:\\", MNT / letter)
    lower = letter.lower()
    spellings = [f"{letter}:", f"{letter}:\\", f"{lower}:\\", f"/mnt/{letter}", f"/mnt/{letter}/"]
    for text in spellings:
        assert access_path(text, MNT) == place
    assert place.is_letter


def test_a_folder_is_named_with_its_slash() -> None:
    place = access_path("/srv/data", MNT)
    assert place == AccessPath("/srv/data/", Path("/srv/data"))
    assert not place.is_letter


@pytest.mark.parametrize(
    "text", ["", "X", "relative/path", "/", "/a/../b", "XY:", "\\\\?\\", "\0"]
)
def test_what_is_no_place_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        access_path(text, MNT)
    assert caught.value.item == text


@given(st.uuids())
def test_a_volume_guid_path_names_its_guid(guid: UUID) -> None:
    assert volume_reference(volume_guid_name(guid), MNT) == guid
    assert (
        volume_reference(volume_guid_name(guid).upper().replace("VOLUME", "Volume"), MNT) == guid
    )


@pytest.mark.parametrize(
    "name",
    [
        "F:",
        "/mnt/F",
        "/srv/data",
        "\\\\?\\Volume{6f1e9a52-70c1-4e0b-9d6e-0a5c31d7b2f4}",
        "\\\\?\\Volume{nonsense}\\",
        "nothing\\",
    ],
)
def test_a_name_without_its_last_separator_is_no_volume(name: str) -> None:
    with pytest.raises(ObjectNotFound) as caught:
        volume_reference(name, MNT)
    assert caught.value.item == name
