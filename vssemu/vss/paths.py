r"""Paths as the originating host sees them, and where they lie in a shadow copy.

`path_in` is the one place that turns such a path into one below a device object. A path is
recognised by the names of the copied volumes:

    F:\data\a.db                      drive letter; any case, `\` or `/`
    \\?\Volume{guid}\data\a.db        volume GUID name
    C:\mnt\logs\a.log                 mounted folder, if the volume has that name
    /mnt/F/data/a.db                  Linux path; case counts, only `/` separates

The document carries the volume GUID name alone. Drive letters and mount points come from the
requester's records (the manifest of the cabinet has the letter), see `copied_volume`.
Writers should write `F:\...`, the form that every requester understands.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vssemu.vss.errors import InvalidArgument, ObjectNotFound
from vssemu.vss.snapshot import SnapshotProperties

_VARIABLE = re.compile(r"%[^%\\/]+%")
_LETTER = re.compile(r"([A-Za-z]):(?:[\\/]|$)")
_GUID_NAME = re.compile(r"volume\{[0-9a-f-]{36}\}", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiedVolume:
    r"""A shadow copy, and every name that its original volume has on its own host.

    names: drive letter path `F:\`, volume GUID name, mounted folders, Linux mount points.
    device_object: the root directory of the copy, without a trailing slash.
    """

    names: tuple[str, ...]
    device_object: str


def copied_volume(
    properties: SnapshotProperties, *, letter: str | None = None, names: Sequence[str] = ()
) -> CopiedVolume:
    r"""Return the copied volume of a shadow copy on this host.

    letter: the original's drive letter (`F`, `F:` or `F:\`), which stands for `/mnt/F` too.
    names: further names, for example OriginalVolume of a cabinet's manifest.
    Raises InvalidArgument for a copy that has no device object here.
    """
    if not properties.device_object:
        raise InvalidArgument(
            f"shadow copy {properties.snapshot_id} has no device object on this host",
            hint="import the set first",
            item=str(properties.snapshot_id),
        )
    every = [properties.original_volume_name, *names]
    if letter is not None:
        every.append(f"{letter[:1].upper()}:\\")
    drives = [_LETTER.fullmatch(name) for name in every]
    every += [f"/mnt/{drive.group(1).upper()}" for drive in drives if drive is not None]
    return CopiedVolume(names=tuple(dict.fromkeys(every)), device_object=properties.device_object)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A path, taken apart. anchor: what it hangs on; a letter, a volume, or `/` on Linux."""

    anchor: str
    parts: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The parts as they are compared: Windows does not see case."""
        return self.parts if self.anchor == "/" else tuple(p.lower() for p in self.parts)


def _parse(path: str) -> _Parsed | None:
    """Return the parts of an absolute path, None for any other."""
    if path.startswith("/"):
        return _Parsed("/", _parts(path.split("/")))
    bare = path[4:] if path.startswith("\\\\?\\") else path
    head, *rest = re.split(r"[\\/]", bare)
    if _LETTER.match(bare):
        return _Parsed(head.lower(), _parts(rest))
    if bare is not path and _GUID_NAME.fullmatch(head):
        return _Parsed(head.lower(), _parts(rest))
    return None


def _parts(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for part in parts if part not in {"", "."})


def _rest(volume: CopiedVolume, path: _Parsed) -> tuple[str, ...] | None:
    """Return what follows the longest name of the volume in a path; None if none fits."""
    best: tuple[str, ...] | None = None
    for name in volume.names:
        known = _parse(name)
        if known is None or known.anchor != path.anchor:
            continue
        length = len(known.keys)
        fits = path.keys[:length] == known.keys
        if fits and (best is None or len(path.parts) - length < len(best)):
            best = path.parts[length:]
    return best


def _checked(path: str) -> _Parsed:
    """Return a path taken apart. Raises InvalidArgument for one that cannot be placed."""
    parsed = _parse(path)
    fact = None
    if "\0" in path:
        fact = "it has a NUL character"
    elif _VARIABLE.search(path):
        fact = "it has an environment variable of the originating host"
    elif parsed is None:
        fact = "it is not an absolute path of the originating host"
    elif ".." in parsed.parts:
        fact = "it climbs with .."
    if fact is not None or parsed is None:
        raise InvalidArgument(
            f"path {path!r}: {fact}",
            hint=r"give F:\dir, \\?\Volume{guid}\dir or /mnt/F/dir",
            item=path,
        )
    return parsed


def path_in(copy: CopiedVolume, path: str) -> str:
    """Return where a path of the originating host lies in a shadow copy.

    The result is the device object, a slash and the rest of the path; the device object alone
    for the volume's root. It never leads out of the copy's tree by its own text.
    Raises ObjectNotFound for a path on another volume, InvalidArgument for one that is not
    absolute, has `..` or an environment variable.
    """
    rest = _rest(copy, _checked(path))
    if rest is None:
        raise ObjectNotFound(
            f"path {path!r} is not on the volume {copy.names[0] if copy.names else '?'}",
            hint="use the shadow copy of the volume that the path is on",
            item=path,
        )
    return "/".join((copy.device_object, *rest))


def copy_of(copies: Sequence[CopiedVolume], path: str) -> CopiedVolume | None:
    """Return the copied volume that a path of the originating host is on, None without one.

    When one volume is mounted below another, the longest name decides.
    Raises InvalidArgument as `path_in` does.
    """
    parsed = _checked(path)
    found = [(rest, copy) for copy in copies if (rest := _rest(copy, parsed)) is not None]
    return min(found, key=lambda pair: len(pair[0]))[1] if found else None


def matches(spec: str, name: str) -> bool:
    """Tell whether a file name fits a file specification.

    `*` is any run of characters, `?` exactly one, `*.*` every name, with or without a dot, as
    on Windows. Case does not count, also on Linux: the writer may have written either.
    """
    if spec == "*.*":
        return True
    star = -1
    at = index = mark = 0
    while index < len(name):
        if at < len(spec) and spec[at] == "*":
            star, mark = at, index
            at += 1
        elif at < len(spec) and (spec[at] == "?" or _same(spec[at], name[index])):
            at += 1
            index += 1
        elif star >= 0:
            mark += 1
            at, index = star + 1, mark
        else:
            return False
    return not spec[at:].strip("*")


def _same(left: str, right: str) -> bool:
    return left == right or left.lower() == right.lower() or left.upper() == right.upper()
