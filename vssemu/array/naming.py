"""Identities that the array gives: NAA ids, serials, and the record that carries them.

An id is `naa.` and 32 hex digits: 6 (IEEE Registered Extended), a locally administered
company id, 15 random digits and 10 of a counter that the journal never turns back. So it is
neither guessed nor ever given twice, not by this array after a delete and not by two arrays.
The serial is 128 random bits and leaves the array in LUN records only: who can tell it holds
the record.

Source: SPC-4 7.8.6 (NAA designators), 7.8.15 (unit serial number page).
"""

import re
import secrets
from typing import Final

from vssemu.vss.errors import InvalidArgument
from vssemu.vss.identity import Initiator, LunId
from vssemu.vss.lun import BusType, CodeSet, IdentifierType, LunInformation, StorageIdentifier

VENDOR_ID: Final = "VSSEMU"
PRODUCT_ID: Final = "Virtual LUN"
PRODUCT_REVISION: Final = "0001"
COMPANY_ID: Final = "025653"
_RANDOM_DIGITS: Final = 15
_COUNTER_DIGITS: Final = 10
_LUN_ID: Final = re.compile(r"naa\.6[0-9a-f]{31}\Z")
_INITIATOR: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}\Z")


def mint_lun_id(counter: int) -> LunId:
    """Return a new id; counter: a number that was never given here before, from 0 on."""
    random = secrets.randbits(4 * _RANDOM_DIGITS)
    return LunId(
        f"naa.6{COMPANY_ID}{random:0{_RANDOM_DIGITS}x}{counter:0{_COUNTER_DIGITS}x}",
    )


def mint_serial() -> str:
    """Return a new page 0x80 serial: 32 random hex digits."""
    return secrets.token_hex(16)


def is_lun_id(text: str) -> bool:
    """Tell whether a text has the form of an id, and so is safe as a file name."""
    return _LUN_ID.match(text) is not None


def check_initiator(name: str) -> Initiator:
    """Return the name of an initiator, which also is the name of its directory.

    Letters, digits and `_.:-`, at most 63, beginning with a letter or digit.
    Raises InvalidArgument.
    """
    if not _INITIATOR.match(name):
        raise InvalidArgument(
            f"{name!r} is no name for an initiator",
            item=name,
            hint="use letters, digits, '_', '.', ':' and '-', 63 at most",
        )
    return Initiator(name)


def information(lun: LunId, serial: str) -> LunInformation:
    """Return the LUN information that the array's inquiry pages give."""
    return LunInformation(
        bus_type=BusType.SCSI,
        vendor_id=VENDOR_ID,
        product_id=PRODUCT_ID,
        product_revision=PRODUCT_REVISION,
        serial_number=serial,
        identifiers=(
            StorageIdentifier(
                code_set=CodeSet.BINARY,
                type=IdentifierType.FCPH_NAME,
                identifier=bytes.fromhex(lun.removeprefix("naa.")),
            ),
        ),
    )
