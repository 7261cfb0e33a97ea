"""The language below the commands: bytes, words, quotes, comments, expansion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.tools.diskshadow import language
from vssemu.tools.diskshadow.aliases import Alias, Aliases


def test_words_stand_between_blanks_and_tabs() -> None:
    assert language.words("  add\tvolume   F: ") == ["add", "volume", "F:"]


def test_quotes_hold_blanks_and_go_away() -> None:
    assert language.words('set metadata "C:\\my dir\\y.cab"') == [
        "set",
        "metadata",
        "C:\\my dir\\y.cab",
    ]
    assert language.words('writer verify "Stock Writer":"\\a b\\c"')[2] == "Stock Writer:\\a b\\c"
    assert language.words('add alias x ""') == ["add", "alias", "x", ""]


def test_an_open_quote_is_an_error() -> None:
    with pytest.raises(language.LanguageError, match="quotation mark"):
        language.words('set metadata "C:\\x.cab')


@pytest.mark.parametrize("line", ["#", "# text", "   # text", "#create"])
def test_a_line_that_begins_with_a_number_sign_is_a_comment(line: str) -> None:
    assert language.is_comment(line)
    assert language.words(line) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("create #", ["create"]),
        ("create#", ["create"]),
        ("expose %a% z:#", ["expose", "%a%", "z:"]),
        ("add volume F: # the data", ["add", "volume", "F:"]),
        ('load metadata "x#"', ["load", "metadata", "x#"]),
        ("load metadata a#b", ["load", "metadata", "a#b"]),
    ],
)
def test_a_number_sign_after_a_command_is_tolerated(line: str, words: list[str]) -> None:
    assert language.words(line) == words


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_lines_may_end_in_every_way(end: str) -> None:
    assert language.lines(f"reset{end}{end}exit{end}") == ["reset", "", "exit"]
    assert language.lines(f"reset{end}exit") == ["reset", "exit"]


def test_a_byte_order_mark_is_dropped() -> None:
    assert language.decode(b"\xef\xbb\xbfcreate") == "create"


def test_text_that_is_not_utf_8_is_read_by_the_western_code_page() -> None:
    assert language.decode(b"# caf\xe9") == "# café"


@pytest.mark.parametrize("data", ["create".encode("utf-16"), "create".encode("utf-16-le")])
def test_utf_16_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(language.LanguageError, match="8-bit text"):
        language.decode(data)


def aliases() -> Aliases:
    found = Aliases({"HOME": "/root", "Mixed": "case"})
    found.put(Alias(name="Data", value="{guid}"))
    found.put(Alias(name="home", value="alias wins"))
    return found


def test_names_are_replaced_without_regard_to_case() -> None:
    expanded = language.expand("x%DATA%y%mixed%", aliases().lookup)
    assert expanded.text == "x{guid}ycase"
    assert expanded.names == (("DATA", "{guid}"), ("mixed", "case"))


def test_an_alias_stands_before_an_environment_variable() -> None:
    assert language.expand("%HOME%", aliases().lookup).text == "alias wins"


def test_a_value_is_not_expanded_again() -> None:
    found = aliases()
    found.put(Alias(name="a", value="%Data%"))
    assert language.expand("%a%", found.lookup).text == "%Data%"


def test_an_unset_name_is_an_error() -> None:
    with pytest.raises(language.UnknownName) as caught:
        language.expand("%nothing%", aliases().lookup)
    assert caught.value.name == "nothing"


@pytest.mark.parametrize("text", ["100%", "%", "%%", "50% of", "a%b"])
def test_percent_signs_that_name_nothing_stay(text: str) -> None:
    assert language.expand(text, aliases().lookup).text == text


def test_aliases_are_environment_variables_but_replace_none() -> None:
    environment = aliases().environment()
    assert environment["Data"] == environment["DATA"] == "{guid}"
    assert environment["HOME"] == "/root"
    found = aliases()
    found.put(Alias(name="LD_PRELOAD", value="/tmp/x.so"))
    assert "LD_PRELOAD" not in found.environment()


@given(st.text())
def test_no_line_crashes_the_split(line: str) -> None:
    try:
        words = language.words(line)
    except language.LanguageError:
        return
    assert all("\t" not in word or '"' in line for word in words)


@given(st.text(alphabet=st.characters()))
def test_cleaned_text_can_be_sent_and_stays_when_it_was_clean(text: str) -> None:
    cleaned = language.clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    assert language.clean(cleaned) == cleaned


@given(st.binary())
def test_all_bytes_are_text_or_refused(data: bytes) -> None:
    try:
        text = language.decode(data)
    except language.LanguageError:
        return
    for line in language.lines(text):
        assert "\n" not in line
