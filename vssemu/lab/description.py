"""Labs as users describe them: fields of a TOML file, of options, or of both.

name, engine, safety: text. chunk_size: text as in the notation of sizes, or bytes. hosts: list
of names. pool: directory, in a file relative to it. volumes: list of texts in the option's
notation (`F:=2G:xfs@systemTwo`) or of tables with the keys letter, size (text as in the
notation, or bytes), filesystem, host, whole, lun.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from vssemu.lab.config import (
    LabConfig,
    VolumeSpec,
    checked,
    checked_volume,
    parse_size,
    parse_volumes,
)
from vssemu.vss.errors import InvalidArgument

_KEYS = {"name", "hosts", "volumes", "pool", "engine", "chunk_size", "safety"}


def load_toml(path: Path) -> dict[str, Any]:
    """Return the fields of a lab file.

    Raises InvalidArgument for a file that is missing, not TOML, or has unknown keys.
    """
    try:
        table = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", item=str(path)) from error
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"{path}: {error}", item=str(path)) from error
    if not isinstance(table, dict) or (strange := set(table) - _KEYS):
        raise InvalidArgument(
            f"{path}: unknown keys {sorted(strange)}", hint=f"known: {sorted(_KEYS)}"
        )
    if isinstance(pool := table.get("pool"), str):
        table["pool"] = str(path.absolute().parent / pool)
    return table


def described(fields: Mapping[str, Any], otherwise: LabConfig | None = None) -> LabConfig:
    """Return the lab that fields describe.

    otherwise: gives what the fields do not have; without it a lab of the usual hosts does.
    Raises InvalidArgument with the item that is wrong.
    """
    given = dict(fields)
    texts = given.pop("volumes", None)
    if texts is not None and not isinstance(texts, list | tuple):
        raise InvalidArgument("the lab's volumes are no list", item="volumes")
    if isinstance(size := given.get("chunk_size"), str):
        given["chunk_size"] = parse_size(size)
    base = otherwise or LabConfig()
    try:
        plain = msgspec.convert(given, type=LabConfig)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"the lab's description: {error}") from error
    config = replace(base, **{key: getattr(plain, key) for key in given})
    if texts is not None:
        config = replace(config, volumes=tuple(v for each in texts for v in _volumes(each)))
    return checked(config)


def _volumes(each: object) -> tuple[VolumeSpec, ...]:
    if isinstance(each, str):
        return parse_volumes(each)
    if not isinstance(each, dict):
        raise InvalidArgument(f"volume {each!r} is neither text nor a table", item=str(each))
    table = dict(each)
    if isinstance(size := table.get("size"), str):
        table["size"] = parse_size(size)
    letter = str(table.get("letter", "")).removesuffix(":").upper()
    if len(letter) != 1 or not "A" <= letter <= "Z":
        raise InvalidArgument(f"volume {each!r}: letter is none of A to Z", item=letter)
    try:
        volume = msgspec.convert(table | {"letter": letter}, type=_Table).volume()
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"volume {letter}: {error}", item=letter) from error
    return (checked_volume(volume, f"{letter}:", shares_lun=volume.lun is not None),)


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """A volume as a table of a lab file."""

    letter: str
    size: int
    filesystem: str = "ext4"
    host: str | None = None
    whole: bool = False
    lun: str | None = None

    def volume(self) -> VolumeSpec:
        return VolumeSpec(**msgspec.structs.asdict(self))
