import shutil
import struct
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cabarchive import CabArchive, CabFile
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vss.documents.samples import (
    COPY_ID,
    PROVIDER,
    SET_ID,
    backup_document,
    stock_metadata,
)
from vssemu.vss.documents import cabinet, manifest
from vssemu.vss.documents.manifest import Manifest, ManifestCopy
from vssemu.vss.documents.wmdbuilder import build
from vssemu.vss.errors import InvalidArgument, InvalidXmlDocument, VssError

MANIFEST = Manifest(
    snapshot_set_id=SET_ID,
    machine_name="SYSTEMONE",
    copies=(
        ManifestCopy(
            snapshot_id=COPY_ID, alias="data", original_volume="F:\\", provider_id=PROVIDER
        ),
    ),
    aliases=(("data", f"{{{COPY_ID}}}"), ("VSS_SHADOW_SET", f"{{{SET_ID}}}")),
    writers=("Stock Writer", "O'Brien & <Sons>"),
    writer_members=("WM0.xml", "WM1.xml"),
    log_file="Dis1A2F.tmp",
)
BCD = backup_document().to_xml()
WMDS = (build(stock_metadata()).to_xml(), build(replace(stock_metadata(), name="Zwölf")).to_xml())


def made() -> bytes:
    return cabinet.write(MANIFEST, BCD, WMDS, b"log", made=datetime(2024, 5, 6, 7, 8, tzinfo=UTC))


def test_a_cabinet_says_the_same_when_read_again() -> None:
    read = cabinet.read(made())
    assert read.manifest == MANIFEST
    assert (read.bcd, read.writers, read.log) == (BCD, WMDS, b"log")


def test_members_stand_in_the_order_of_real_cabinets() -> None:
    assert list(CabArchive(made())) == [
        "Manifest.xml",
        "BCDocument.xml",
        "WM0.xml",
        "WM1.xml",
        "Dis1A2F.tmp",
    ]


def test_the_manifest_has_the_odd_form_of_real_ones() -> None:
    small = replace(MANIFEST, writers=MANIFEST.writers, aliases=MANIFEST.aliases[1:])
    assert manifest.write(small).decode("utf-16-le") == (
        "<Manifest >"
        f"<ShadowCopySet GUID = '{{{SET_ID}}}' MachineName = 'SYSTEMONE' >"
        f"<ShadowCopy GUID = '{{{COPY_ID}}}' Alias = 'data' OriginalVolume = 'F:\\' "
        f"Provider = '{{{PROVIDER}}}' ></ShadowCopy></ShadowCopySet>"
        "<BackupComponents File = 'BCDocument.xml' ></BackupComponents>"
        f"<Aliases ><Alias Name = 'VSS_SHADOW_SET' Value = '{{{SET_ID}}}' ></Alias></Aliases>"
        "<Writers Count = '2' >"
        "<Writer Name = 'Stock%sWriter' MetadataFile = 'WM0.xml' ></Writer>"
        "<Writer Name = 'O&apos;Brien%s&amp;%s&lt;Sons&gt;' MetadataFile = 'WM1.xml' ></Writer>"
        "</Writers><Logfile Name = 'Dis1A2F.tmp' ></Logfile></Manifest>"
    )


def test_a_manifest_of_windows_names_temporary_files_of_its_host() -> None:
    data = manifest.write(MANIFEST).decode("utf-16-le")
    data = data.replace("'WM1.xml'", "'C:\\Users\\x\\AppData\\Local\\Temp\\WM1.xml'")
    assert manifest.read(data.encode("utf-16-le")).writer_members == ("WM0.xml", "WM1.xml")


@pytest.mark.parametrize("gone", ["ShadowCopySet", "BackupComponents"])
def test_a_manifest_without_its_set_or_document_is_refused(gone: str) -> None:
    data = manifest.write(MANIFEST).decode("utf-16-le").replace(gone, "Other")
    with pytest.raises(InvalidXmlDocument, match=gone):
        manifest.read(data.encode("utf-16-le"))


def test_another_program_opens_our_cabinet(tmp_path: Path) -> None:
    program = shutil.which("cabextract")
    assert program is not None, "install cabextract"
    text = "x" * 200_000  # more than one data block
    data = cabinet.write(MANIFEST, BCD, (*WMDS[:1], text), bytes(range(256)) * 500)
    (tmp_path / "a.cab").write_bytes(data)
    for options in (["--test"], ["--quiet", "--directory", str(tmp_path / "out")]):
        subprocess.run(
            [program, *options, str(tmp_path / "a.cab")], check=True, capture_output=True
        )
    out = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert out == {
        "Manifest.xml": manifest.write(MANIFEST),
        "BCDocument.xml": BCD.encode(),
        "WM0.xml": WMDS[0].encode(),
        "WM1.xml": text.encode(),
        "Dis1A2F.tmp": bytes(range(256)) * 500,
    }
    assert cabinet.read(data).writers[1] == text


def test_a_stored_cabinet_with_utf_16_members_is_read() -> None:
    archive = CabArchive()
    for name, content in {
        "manifest.XML": manifest.write(MANIFEST),
        "BCDocument.xml": BCD.encode("utf-16"),
        "WM0.xml": (WMDS[0] + "\0").encode("utf-16-le"),
        "WM1.xml": WMDS[1].encode(),
    }.items():
        archive[name] = CabFile(content, mtime=datetime(2020, 1, 1, tzinfo=UTC))
    read = cabinet.read(archive.save(compress=False))
    assert (read.bcd, read.writers, read.log) == (BCD, WMDS, b"")


def test_lzx_is_refused_with_a_way_out() -> None:
    data = bytearray(made())
    compression = struct.calcsize("<4sxxxxIxxxxIxxxxBBHHHHH") + 6
    assert data[compression : compression + 2] == b"\x01\0"
    data[compression : compression + 2] = b"\x03\x15"
    with pytest.raises(InvalidArgument, match="LZX") as caught:
        cabinet.read(bytes(data))
    assert "cabextract" in (caught.value.hint or "")


def test_missing_members_are_named() -> None:
    for name in ("Manifest.xml", "BCDocument.xml", "WM1.xml"):
        archive = CabArchive(made())
        del archive[name]
        with pytest.raises(InvalidArgument, match=f"no member {name}"):
            cabinet.read(archive.save(compress=True, sort=False))


def test_names_and_documents_of_writers_must_agree() -> None:
    with pytest.raises(InvalidArgument, match="1 writer documents for 2 writers"):
        cabinet.write(MANIFEST, BCD, WMDS[:1], b"")


def test_what_is_no_cabinet_is_refused() -> None:
    for data in (b"", b"PK\3\4", b"MSCF", b"MSCF" + b"\0" * 100):
        with pytest.raises(InvalidArgument, match="cabinet"):
            cabinet.read(data)


def test_a_cabinet_that_claims_gigabytes_is_refused() -> None:
    header = struct.Struct("<4sxxxxIxxxxIxxxxBBHHHHH")
    block = struct.pack("<IHH", 0, 0, 0xFFFF)
    body = block * 0xFFFF
    start = header.size + 8
    folder = struct.pack("<IHH", start, 0xFFFF, 1)
    size = start + len(body)
    data = header.pack(b"MSCF", size, size, 3, 1, 1, 1, 0, 0, 0) + folder + body
    with pytest.raises(InvalidArgument, match="unpacks to more"):
        cabinet.read(data)
    empty = struct.pack("<IHH", 0, 0, 0) * 0xFFFF
    many = header.pack(b"MSCF", size, size, 3, 1, 0xFFFF, 1, 0, 0, 0)
    start = header.size + 8 * 0xFFFF
    folders = struct.pack("<IHH", start, 0xFFFF, 1) * 0xFFFF
    with pytest.raises(InvalidArgument, match="unpacks to more"):
        cabinet.read(many + folders + empty)


@given(st.data())
def test_a_damaged_cabinet_is_read_or_raises_a_vss_error(data: st.DataObject) -> None:
    good = made()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        # Mostly the headers: damage to the content is found by its checksum.
        last = data.draw(st.sampled_from([100, 250, len(good) - 1]))
        bad[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    bad = bad[: data.draw(st.integers(0, len(bad)))] if data.draw(st.booleans()) else bad
    try:
        cabinet.read(bytes(bad))
    except VssError as error:
        text = str(error)
        if "\n" in text:
            raise AssertionError(text) from error
