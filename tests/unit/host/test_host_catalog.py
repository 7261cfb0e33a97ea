"""What the host's catalog keeps over a restart."""

import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest

from vssemu.host.catalog import Catalog, ObjectRow
from vssemu.vss.errors import Unexpected
from vssemu.vss.identity import LunId, SnapshotId, SnapshotSetId
from vssemu.vss.lun import Extent, IdentifierType, LunInformation, StorageIdentifier

LUN = LunId("naa.60000000000000000000000000000001")
RECORD = LunInformation(
    serial_number="secret",
    identifiers=(
        StorageIdentifier(
            code_set=1, type=IdentifierType.FCPH_NAME, identifier=bytes.fromhex(LUN[4:])
        ),
    ),
)


def row(number: int) -> ObjectRow:
    return ObjectRow(
        snapshot_id=SnapshotId(uuid4()),
        number=number,
        lun=LUN,
        extent=Extent(offset=1 << 20, length=1 << 30),
        properties_json='{"a": 1}',
        released=False,
    )


def test_everything_is_there_again_when_it_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "state" / "host.db"
    volume, set_id = uuid4(), SnapshotSetId(uuid4())
    with Catalog(path) as catalog:
        catalog.remember_lun(LUN, RECORD)
        catalog.add_access_path(volume, "F:\\")
        catalog.add_access_path(volume, "/srv/data/")
        kept = row(catalog.next_number())
        catalog.put_object(kept)
        catalog.put_exposure(kept.snapshot_id, "X:\\")
        catalog.mark_import_failed(LUN, set_id)
    with Catalog(path) as catalog:
        assert catalog.lun_record(LUN) == RECORD
        assert catalog.access_paths(volume) == ["F:\\", "/srv/data/"]
        assert catalog.access_path_owner("F:\\") == volume
        assert catalog.objects() == [kept]
        assert catalog.exposures() == {kept.snapshot_id: "X:\\"}
        assert catalog.import_failed() == {LUN: set_id}


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "host.db"
    with Catalog(path) as catalog:
        first = row(catalog.next_number())
        catalog.put_object(first)
        catalog.remove_object(first.snapshot_id)
    with Catalog(path) as catalog:
        assert catalog.next_number() == first.number + 1


def test_a_place_has_one_owner_and_an_object_takes_its_exposure_along(tmp_path: Path) -> None:
    one, other = uuid4(), uuid4()
    with Catalog(tmp_path / "host.db") as catalog:
        catalog.add_access_path(one, "F:\\")
        catalog.add_access_path(other, "F:\\")
        assert catalog.access_paths(one) == []
        assert catalog.access_path_owner("F:\\") == other
        catalog.remove_access_path("F:\\")
        assert catalog.access_path_owner("F:\\") is None
        shown = row(1)
        catalog.put_object(shown)
        catalog.put_exposure(shown.snapshot_id, "X:\\")
        catalog.remove_object(shown.snapshot_id)
        assert catalog.exposures() == {}
        catalog.remember_lun(LUN, RECORD)
        catalog.forget_lun(LUN)
        assert catalog.lun_record(LUN) is None


def test_a_catalog_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "host.db"
    Catalog(path).__exit__(None, None, None)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    with pytest.raises(Unexpected, match="version 99"):
        Catalog(path)
