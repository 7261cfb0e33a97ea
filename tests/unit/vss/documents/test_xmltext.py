import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.vss.documents import xmltext
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.documents.manifest import read as read_manifest
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.errors import InvalidXmlDocument, VssError
from vssemu.vss.hresult import Hresult

PARSERS: tuple[Callable[[str | bytes], object], ...] = (
    BackupComponentsDocument.parse,
    WriterMetadataDocument.parse,
    read_manifest,
)
BCD = '<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2"/>'
LETTERS = '<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" note="Zürich €"/>'


@given(st.one_of(st.text(), st.binary(), st.text(alphabet="<>/!&;\"'= aDOCTYPE?-[]\0\n")))
def test_any_text_parses_or_raises_a_vss_error(text: str | bytes) -> None:
    for parse in PARSERS:
        error = failure(parse, text)
        if error is not None:
            assert error.hresult is Hresult.VSS_E_INVALID_XML_DOCUMENT
            assert "\n" not in str(error)


def failure(parse: Callable[[str | bytes], object], text: str | bytes) -> VssError | None:
    try:
        parse(text)
    except VssError as error:
        return error
    return None


@given(st.integers(0, len(BCD) - 1), st.characters())
def test_a_document_with_one_character_changed_parses_or_raises_a_vss_error(
    at: int, character: str
) -> None:
    for parse in PARSERS:
        try:
            parse(BCD[:at] + character + BCD[at + 1 :])
        except InvalidXmlDocument:
            continue


@pytest.mark.parametrize(
    "data",
    [
        LETTERS.encode(),
        b"\xef\xbb\xbf" + LETTERS.encode(),
        LETTERS.encode("utf-16-le"),
        b"\xff\xfe" + LETTERS.encode("utf-16-le"),
        LETTERS.encode("utf-16-be"),
        b"\xfe\xff" + LETTERS.encode("utf-16-be"),
        (LETTERS + "\r\n\0\0").encode("utf-16-le"),
        LETTERS.encode("utf-16-le") + b"\0",
        (LETTERS + "\0 \0").encode(),
        b'<?xml version="1.0" encoding="UTF-16"?>' + LETTERS.encode(),
        ('<?xml version="1.0" encoding="utf-8"?>\n' + LETTERS).encode("utf-16-le"),
        ('<?xml version="1.0" encoding="windows-1252"?>' + LETTERS).encode("cp1252"),
        b'<?xml version="1.0" encoding="no-such-thing"?>' + LETTERS.encode(),
    ],
)
def test_every_encoding_that_windows_writes_is_read(data: bytes) -> None:
    assert 'note="Zürich €"' in BackupComponentsDocument.parse(data).to_xml()


def test_a_file_is_written_as_vshadow_does() -> None:
    data = xmltext.encode_vshadow(LETTERS)
    assert data == LETTERS.encode("utf-16-le") + b"\0\0"
    assert BackupComponentsDocument.parse(data).to_xml() == LETTERS


ENTITY_BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{n} "{"&a;" * 10}">' for n in range(10))
    + "]>"
)


@pytest.mark.parametrize(
    "text",
    [
        ENTITY_BOMB + BCD,
        '<?xml version="1.0"?>\n<!-- x --><?pi ?>' + ENTITY_BOMB + BCD,
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">' + BCD,
        "\ufeff" + ENTITY_BOMB + BCD,
    ],
)
def test_a_document_type_is_refused_before_it_is_parsed(text: str | bytes) -> None:
    for parse in PARSERS:
        with pytest.raises(InvalidXmlDocument, match="DOCTYPE"):
            parse(text)


def test_an_entity_in_an_attribute_is_not_expanded() -> None:
    with pytest.raises(InvalidXmlDocument, match="not well-formed"):
        BackupComponentsDocument.parse(BCD.replace("1.2", "&a;"))


@pytest.mark.parametrize("filling", ["a", "<a/>", 'b="" ', "é"])
def test_a_hundred_megabytes_are_refused_at_once(filling: str) -> None:
    text = BCD + filling * (100 * 1024 * 1024 // len(filling))
    begun = time.monotonic()
    for source in (text, text.encode()):
        with pytest.raises(InvalidXmlDocument, match="more than the limit"):
            BackupComponentsDocument.parse(source)
    assert time.monotonic() - begun < 5


def test_the_limit_is_the_callers() -> None:
    assert BackupComponentsDocument.parse(BCD, limit=len(BCD)).to_xml() == BCD
    with pytest.raises(InvalidXmlDocument, match="limit"):
        BackupComponentsDocument.parse(BCD, limit=len(BCD) - 1)


def test_a_text_of_tags_alone_and_a_deep_one_are_refused() -> None:
    with pytest.raises(InvalidXmlDocument, match="tags"):
        BackupComponentsDocument.parse(BCD.replace("/>", ">") + "<a/>" * xmltext.MAX_TAGS)
    deep = BCD.replace("/>", ">") + "<a>" * 70 + "</a>" * 70 + "</BACKUP_COMPONENTS>"
    with pytest.raises(InvalidXmlDocument, match="deep"):
        BackupComponentsDocument.parse(deep)
    with pytest.raises(InvalidXmlDocument, match="well-formed"):
        BackupComponentsDocument.parse("<a>" * 900_000)


@pytest.mark.parametrize("cut", range(1, len(BCD) - 1, 7))
def test_a_truncated_document_is_refused_with_the_place(cut: int) -> None:
    with pytest.raises(InvalidXmlDocument, match=r"line 1, column \d+|empty") as caught:
        BackupComponentsDocument.parse(BCD[:cut])
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "   ", "\0\0", b"", b"\xff\xfe"])
def test_an_empty_document_is_called_empty(text: str | bytes) -> None:
    with pytest.raises(InvalidXmlDocument, match="empty"):
        BackupComponentsDocument.parse(text)


def test_another_root_is_named() -> None:
    with pytest.raises(InvalidXmlDocument, match=r"'WRITER_METADATA'.*'BACKUP_COMPONENTS'"):
        BackupComponentsDocument.parse(BCD.replace("BACKUP_COMPONENTS", "WRITER_METADATA"))


def test_another_namespace_is_named() -> None:
    with pytest.raises(InvalidXmlDocument, match="namespace 'urn:x'"):
        BackupComponentsDocument.parse(BCD.replace("x-schema:#VssComponentMetadata", "urn:x"))
    with pytest.raises(InvalidXmlDocument, match="namespace ''"):
        BackupComponentsDocument.parse("<BACKUP_COMPONENTS/>")


def test_bytes_that_are_no_text_are_named_by_their_place() -> None:
    with pytest.raises(InvalidXmlDocument, match="byte 1"):
        BackupComponentsDocument.parse(b"<\xe9>")
    with pytest.raises(InvalidXmlDocument, match="surrogate"):
        BackupComponentsDocument.parse(BCD + "\ud800")


def test_an_attribute_of_a_megabyte_survives() -> None:
    value = "x" * 11_000_000
    text = BCD.replace("1.2", value)
    assert BackupComponentsDocument.parse(text).to_xml() == text
