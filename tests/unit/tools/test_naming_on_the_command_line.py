from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vssemu.tools.naming import guid, lun_id, place_name, volume_name

GUID = "a38ef90d-bca1-4260-beff-bffca8e5eaae"
GUID_PATH = f"\\\\?\\Volume{{{GUID}}}\\"


@pytest.mark.parametrize("text", ["f", "F", "f:", "F:", "F:\\", "f:/"])
def test_a_letter_may_be_written_in_any_way(text: str) -> None:
    assert volume_name(text) == "F:\\"
    assert place_name(text) == "F:\\"


@pytest.mark.parametrize(
    "text",
    [
        GUID_PATH,
        GUID_PATH.rstrip("\\"),
        GUID_PATH.upper(),
        GUID_PATH.replace("\\", "/"),
        GUID,
        f"{{{GUID}}}",
        GUID.upper(),
    ],
)
def test_a_volume_guid_may_be_written_in_any_way(text: str) -> None:
    assert volume_name(text) == GUID_PATH


@pytest.mark.parametrize("text", ["/mnt/F", "/mnt/F/", "/mnt/F//"])
def test_a_mount_point_gets_one_slash_at_its_end(text: str) -> None:
    assert volume_name(text) == "/mnt/F/"


@pytest.mark.parametrize(
    "text", ["", "FF:", "F:\\data", "docs", "/", "//", "Volume{}", "{f}", "1:"]
)
def test_what_names_no_volume_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"names no volume|neither") as caught:
        volume_name(text)
    assert repr(text) in str(caught.value)


@settings(deadline=None)
@given(st.uuids())
def test_every_guid_comes_back_as_its_volume(value: UUID) -> None:
    assert volume_name(f"{{{value}}}") == volume_name(volume_name(str(value)))
    assert guid(f"{{{value}}}") == value


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_name_with_a_separator_or_a_value_error(text: str) -> None:
    try:
        name = volume_name(text)
    except ValueError:
        return
    assert name.endswith(("\\", "/"))


def test_a_lun_id_needs_no_prefix_and_no_case() -> None:
    assert lun_id("NAA." + "6A" * 16) == "naa." + "6a" * 16
    assert lun_id("6a" * 16) == "naa." + "6a" * 16


@pytest.mark.parametrize("text", ["", "naa.", "naa.6", "6a" * 17, "eui." + "6a" * 16])
def test_what_is_no_lun_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="32 hex digits"):
        lun_id(text)
