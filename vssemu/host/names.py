r"""The names of volumes, and what they mean on this host.

    X:\                      a drive letter, mounted at `<mnt>/X`
    \\?\Volume{guid}\        the volume GUID path
    /folder/                 a mount point, with its trailing slash

Pure: nothing is looked up in the file system.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from vssemu.vss.errors import InvalidArgument, ObjectNotFound
from vssemu.vss.identity import parse_guid

_LETTER = re.compile(r"([A-Za-z]):(\\?)")
_VOLUME = re.compile(r"\\\\\?\\Volume(\{[^{}]*\})\\")


@dataclass(frozen=True, slots=True)
class AccessPath:
    r"""A place where a volume is mounted. name: `X:\` or `/folder/`; directory: on Linux."""

    name: str
    directory: Path

    @property
    def is_letter(self) -> bool:
        """Whether the place is a drive letter, whose directory this host makes and removes."""
        return self.name.endswith(":\\")


def access_path(text: str, mnt: Path) -> AccessPath:
    r"""Return the place that `X:`, `X:\` or an absolute folder, with or without `/`, names.

    mnt: where drive letters are. A folder that is a letter's directory is that letter.
    Raises InvalidArgument for anything else.
    """
    if found := _LETTER.fullmatch(text):
        return _letter(found[1], mnt)
    folder = Path(text)
    parts = folder.parts
    if not folder.is_absolute() or ".." in parts or len(parts) < 2 or "\0" in text:
        raise InvalidArgument(
            f"{text!r} names no place to mount a volume",
            hint=r"give a drive letter (X:\) or the absolute path of an empty folder",
            item=text,
        )
    if folder.parent == mnt and re.fullmatch("[A-Z]", folder.name):
        return _letter(folder.name, mnt)
    return AccessPath(f"{folder}/", folder)


def _letter(letter: str, mnt: Path) -> AccessPath:
    return AccessPath(f"{letter.upper()}:\\", mnt / letter.upper())


def volume_reference(name: str, mnt: Path) -> UUID | AccessPath:
    """Return the GUID or the place that a volume's name means; the form must be exact.

    Raises ObjectNotFound when it is no name of a volume, also without its trailing separator.
    """
    if found := _VOLUME.fullmatch(name):
        try:
            return parse_guid(found[1])
        except ValueError:
            raise _no_volume(name) from None
    if not name.endswith(("\\", "/")):
        raise _no_volume(name)
    try:
        return access_path(name, mnt)
    except InvalidArgument:
        raise _no_volume(name) from None


def _no_volume(name: str) -> ObjectNotFound:
    hint = r"a volume is named X:\, \\?\Volume{guid}\ or /folder/, with the last separator"
    return ObjectNotFound(f"{name!r} is no volume of this host", hint=hint, item=name)
