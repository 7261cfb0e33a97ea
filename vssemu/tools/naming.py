r"""The forms in which people name volumes, places, LUNs, GUIDs and sizes on a command line.

Pure: whether a name means something here is for the service to say.
"""

import re
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import click

from vssemu.lab.config import parse_size
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.identity import LunId, parse_guid, volume_guid_name

T = TypeVar("T")

_LETTER = re.compile(r"([A-Za-z]):?[\\/]?")
_VOLUME = re.compile(r"[\\/]{2}[?.][\\/]Volume(?P<guid>\{[^{}]*\})[\\/]?", re.IGNORECASE)
_NAA = re.compile(r"(?:naa\.)?([0-9a-f]{32})", re.IGNORECASE)


def volume_name(text: str) -> str:
    r"""Return the name that the API takes for a volume, with its last separator.

    text: a letter (`X`, `X:`, `X:\`), a volume GUID path, its GUID alone, or a mount point.
    Raises ValueError for anything else.
    """
    found = _VOLUME.fullmatch(text)
    if not found and (_LETTER.fullmatch(text) or text.startswith("/")):
        return place_name(text)
    try:
        return volume_guid_name(parse_guid(found["guid"] if found else text))
    except ValueError:
        forms = r"X:, \\?\Volume{guid}\, a GUID or a mount point"
        raise ValueError(f"{text!r} names no volume, give {forms}") from None


def place_name(text: str) -> str:
    r"""Return `X:\` or `/folder/` for the place where a volume is, or is to be, mounted.

    Raises ValueError for anything but a letter and an absolute path.
    """
    if found := _LETTER.fullmatch(text):
        return f"{found[1].upper()}:\\"
    if text.startswith("/") and text.strip("/"):
        return f"{text.rstrip('/')}/"
    raise ValueError(f"{text!r} is neither a drive letter nor an absolute path")


def drive_letter(text: str) -> str:
    r"""Return the capital letter that `X`, `X:` or `X:\` names. Raises ValueError."""
    if found := _LETTER.fullmatch(text):
        return found[1].upper()
    raise ValueError(f"{text!r} is no drive letter")


def lun_id(text: str) -> LunId:
    """Return a LUN's id, of which `naa.` may be left out. Raises ValueError."""
    if found := _NAA.fullmatch(text):
        return LunId(f"naa.{found[1].lower()}")
    raise ValueError(f"{text!r} is not naa. and 32 hex digits")


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a click type of a function that raises ValueError with the reason."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return convert


def guid(text: str) -> UUID:
    """Return a GUID, in braces or not. Raises ValueError, which names the text."""
    try:
        return parse_guid(text)
    except ValueError:
        raise ValueError(f"{text!r} is no GUID") from None


def size(text: str) -> int:
    """Return the bytes that `512M` or `2G` mean. Raises ValueError."""
    try:
        return parse_size(text)
    except InvalidArgument as error:
        raise ValueError(f"{error.fact}, {error.hint}") from None


VOLUME = _argument(volume_name)
PLACE = _argument(place_name)
LETTER = _argument(drive_letter)
LUN = _argument(lun_id)
GUID = _argument(guid)
SIZE = _argument(size)
