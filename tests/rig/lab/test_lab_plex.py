"""Full copies end to end: `vshadow -plex`, on a lab."""

import pytest

from tests.rig.lab.labrig import ONE, TWO, Rig, create, digest, import_set
from vssemu import Attribute, Context
from vssemu.vss.array import LunKind
from vssemu.vss.errors import InvalidArgument

PLEX = Context.BACKUP | Attribute.TRANSPORTABLE | Attribute.PLEX


def test_a_plex_travels_and_says_what_it_is(lab: Rig) -> None:
    source = lab.path(ONE, "/mnt/F/data")
    frozen = digest(source)
    with lab.backup(ONE) as creator:
        made = create(creator, context=PLEX)
        document = creator.save_as_xml()
        (copy,) = [lun for lun in lab.inventory() if lun.set_id == made.set_id]
        assert copy.kind is LunKind.PLEX
        with lab.backup(TWO) as importer:
            import_set(importer, document)
            found = importer.get_snapshot_properties(made.copy)
            assert Attribute.PLEX in found.attributes
            assert Attribute.DIFFERENTIAL not in found.attributes
            tree = lab.path(TWO, found.device_object)
            assert digest(tree / "data") == frozen


def test_without_a_word_of_it_a_copy_is_differential(lab: Rig) -> None:
    with lab.backup(ONE) as creator:
        made = create(creator)
        (copy,) = [lun for lun in lab.inventory() if lun.set_id == made.set_id]
        assert copy.kind is LunKind.DIFFERENTIAL
        with lab.backup(TWO) as importer:
            import_set(importer, creator.save_as_xml())


def test_a_context_that_asks_for_both_kinds_is_refused(lab: Rig) -> None:
    with lab.backup(ONE) as creator:
        creator.initialize_for_backup()
        with pytest.raises(InvalidArgument, match="exclude each other"):
            creator.set_context(PLEX | Attribute.DIFFERENTIAL)
