r"""Paths and places as scripts write them, and where they are on Linux.

`X:\dir` is `/mnt/X/dir`, `\` is `/`; a `[paths]` table of the configuration names other roots:

    [paths]
    "C:" = "/srv/windows"
    '\\filer\share' = "/net/filer"

A path with a leading `/` is Linux's own and stays as it is, others lie below the working
directory. Owns the text only: whether something is there is for the caller to see.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from vssemu.service.limits import CONFIGURATION
from vssemu.tools.diskshadow.failures import Failed
from vssemu.vss.identity import parse_guid, volume_guid_name

_MNT: Final = Path("/mnt")
_LETTER: Final = re.compile(r"([A-Za-z]):[\\/]?")
_DRIVE: Final = re.compile(r"([A-Za-z]):[\\/]?(.*)", re.DOTALL)
_VOLUME: Final = re.compile(r"\\\\[?.]\\Volume(\{[^{}]*\})\\?", re.IGNORECASE)
_LETTER_DIRECTORY: Final = re.compile(r"/mnt/([A-Z])/?")


@dataclass(frozen=True, slots=True)
class Roots:
    """The `[paths]` table: Windows roots, without a last backslash, and Linux directories."""

    table: tuple[tuple[str, str], ...] = ()

    def linux(self, text: str) -> Path:
        """Return where a path lies; a relative one below the working directory.

        Raises Failed for a share that no root names.
        """
        if text.startswith("/"):
            return Path(text)
        for root, directory in self.table:
            rest = text[len(root) :]
            if text.lower().startswith(root.lower()) and (not rest or rest[0] in "\\/"):
                return Path(directory, *_parts(rest))
        if drive := _DRIVE.fullmatch(text):
            return _MNT.joinpath(drive[1].upper(), *_parts(drive[2]))
        if text.startswith("\\\\"):
            raise Failed(f"{text}: no [paths] entry of {CONFIGURATION} names this share.")
        if text.startswith("\\"):
            return Path("/", *_parts(text))
        return Path.cwd().joinpath(*_parts(text))

    def volume(self, text: str) -> str:
        r"""Return a volume's name as the API takes it: `X:\`, the GUID path, or `/folder/`.

        Raises Failed for a volume GUID path that is none.
        """
        if found := _VOLUME.fullmatch(text):
            return volume_guid_name(_guid(found[1], text))
        return self.place(text)

    def place(self, text: str) -> str:
        r"""Return a place as the API names it: `X:\`, or the folder with a last slash."""
        if found := _LETTER.fullmatch(text):
            return f"{found[1].upper()}:\\"
        folder = str(self.linux(text))
        if found := _LETTER_DIRECTORY.fullmatch(folder):
            return f"{found[1]}:\\"
        return folder.rstrip("/") + "/"


def is_share(text: str) -> bool:
    r"""Tell whether EXPOSE is to make a share: a bare name, or `\\machine\share`."""
    if text.startswith("\\\\"):
        return _VOLUME.fullmatch(text) is None
    return not any(mark in text for mark in ":\\/")


def is_letter(text: str) -> bool:
    """Tell whether a place is a drive letter."""
    return _LETTER.fullmatch(text) is not None


def load_roots(file: Path = CONFIGURATION) -> Roots:
    """Return the roots of the configuration; none without the file or the table.

    Raises Failed naming the file and what is wrong with it.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("paths", {})
    except FileNotFoundError:
        return Roots()
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise Failed(f"{file}: not TOML: {error}") from error
    return Roots(_checked(table, file))


def _checked(table: object, file: Path) -> tuple[tuple[str, str], ...]:
    if not isinstance(table, Mapping):
        raise Failed(f"{file}: paths must be a table")
    roots: list[tuple[str, str]] = []
    for root, directory in table.items():
        bare = str(root).rstrip("\\/")
        if not bare or not isinstance(directory, str) or not directory.startswith("/"):
            raise Failed(f"{file}: paths: {root!r} must name an absolute Linux directory")
        roots.append((bare, directory))
    # The longest root that fits decides.
    return tuple(sorted(roots, key=lambda entry: -len(entry[0])))


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[\\/]+", text) if part]


def _guid(braces: str, text: str) -> UUID:
    try:
        return parse_guid(braces)
    except ValueError:
        raise Failed(f"{text} is no volume.") from None
