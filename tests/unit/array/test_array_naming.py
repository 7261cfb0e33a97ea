from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.array import naming
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.lun import IdentifierType, is_same_lun


@given(st.integers(min_value=0, max_value=16**10 - 1))
def test_an_id_is_an_naa_6_name_of_32_digits_that_ends_in_the_counter(counter: Any) -> None:
    lun = naming.mint_lun_id(counter)
    assert naming.is_lun_id(lun)
    assert len(lun) == len("naa.") + 32
    assert int(lun[-10:], 16) == counter


def test_two_arrays_that_count_alike_give_different_ids() -> None:
    assert len({naming.mint_lun_id(7) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text", ["", "naa.", "naa.6" + "0" * 30, "naa.6" + "0" * 32, "../x", "naa.6" + "G" * 31]
)
def test_what_is_no_id_is_not_taken_for_one(text: Any) -> None:
    assert not naming.is_lun_id(text)


def test_a_record_carries_vendor_product_serial_and_a_unique_identifier() -> None:
    lun, serial = naming.mint_lun_id(1), naming.mint_serial()
    record = naming.information(lun, serial)
    assert (record.version, record.vendor_id, record.product_id) == (1, "VSSEMU", "Virtual LUN")
    assert record.serial_number == serial
    assert len(serial) == 32
    assert record.naa == lun
    (identifier,) = record.unique_identifiers
    assert identifier.type == IdentifierType.FCPH_NAME
    assert len(identifier.identifier) == 16


def test_another_serial_is_another_lun() -> None:
    lun = naming.mint_lun_id(1)
    one, two = (naming.information(lun, naming.mint_serial()) for _ in range(2))
    assert not is_same_lun(one, two)


@pytest.mark.parametrize("name", ["systemOne", "a", "iqn.2024-01:host_1", "x" * 63])
def test_a_plain_name_of_an_initiator_is_taken(name: Any) -> None:
    assert naming.check_initiator(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "x" * 64, "a\n", "ü"])
def test_a_name_that_is_no_directory_of_its_own_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArgument):
        naming.check_initiator(name)
