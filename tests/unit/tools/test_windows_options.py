import pytest

from vssemu.tools.windows_options import UsageError, parse


@pytest.mark.parametrize("prefix", ["/", "-", "--"])
def test_options_take_either_prefix_any_case_and_stand_anywhere(prefix: str) -> None:
    line = parse([f"{prefix}FOR=f:", "List", f"{prefix}Shadow={{ID}}", "SHADOWS"])
    assert line.words == ("list", "shadows")
    assert line.options == {"for": "f:", "shadow": "{ID}"}


def test_a_value_keeps_its_case_its_equals_signs_and_slashes() -> None:
    assert parse(["/for=/mnt/A=b"]).options == {"for": "/mnt/A=b"}
    assert parse(['/for="F:\\my dir"']).options == {"for": "F:\\my dir"}


def test_an_option_without_equals_has_no_value_and_an_empty_one_is_empty() -> None:
    assert parse(["/quiet", "/for="]).options == {"quiet": None, "for": ""}


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="/for"):
        parse(["/for=F:", "-FOR=G:"])


@pytest.mark.parametrize("text", ["/?", "-?", "-h", "--help", "/HELP"])
def test_every_spelling_of_help_is_known(text: str) -> None:
    assert parse(["list", text]).wants_help()
