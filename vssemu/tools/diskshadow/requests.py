"""What the commands of a script ask for, as values; made by `parsing`, done by `commands`."""

from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.identity import GUID_NULL, ProviderId


class Request:
    """One command, ready to be done."""


@dataclass(frozen=True, slots=True)
class ShowSettings(Request):
    """SET."""


@dataclass(frozen=True, slots=True)
class SetContext(Request):
    """SET CONTEXT."""

    context: Context


@dataclass(frozen=True, slots=True)
class SetOption(Request):
    """SET OPTION. options: modifiers of the context."""

    options: Attribute


@dataclass(frozen=True, slots=True)
class SetMetadata(Request):
    """SET METADATA. path: as typed."""

    path: str


@dataclass(frozen=True, slots=True)
class SetVerbose(Request):
    """SET VERBOSE."""

    is_on: bool


@dataclass(frozen=True, slots=True)
class ShowSet(Request):
    """ADD."""


@dataclass(frozen=True, slots=True)
class AddVolume(Request):
    """ADD VOLUME. volume: as typed."""

    volume: str
    provider: ProviderId | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class AddAlias(Request):
    """ADD ALIAS."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class WriterRule(Request):
    r"""WRITER VERIFY and WRITER EXCLUDE.

    writer: name, class id or instance id. component: full path `\path\name`, None for all.
    """

    writer: str
    component: str | None
    is_excluded: bool


@dataclass(frozen=True, slots=True)
class BeginBackup(Request):
    """BEGIN BACKUP."""


@dataclass(frozen=True, slots=True)
class EndBackup(Request):
    """END BACKUP."""


@dataclass(frozen=True, slots=True)
class Create(Request):
    """CREATE."""


@dataclass(frozen=True, slots=True)
class LoadMetadata(Request):
    """LOAD METADATA. path: as typed."""

    path: str


@dataclass(frozen=True, slots=True)
class Import(Request):
    """IMPORT."""


class Scope(Enum):
    """What a word after LIST SHADOWS or DELETE SHADOWS chooses by."""

    ALL = "all"
    VOLUME = "volume"
    OLDEST = "oldest"
    SET = "set"
    ID = "id"
    EXPOSED = "exposed"


@dataclass(frozen=True, slots=True)
class ListShadows(Request):
    """LIST SHADOWS. guid: of SET and ID."""

    scope: Scope
    guid: UUID = GUID_NULL


class WriterDetail(Enum):
    """How much LIST WRITERS tells."""

    METADATA = "metadata"
    DETAILED = "detailed"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class ListWriters(Request):
    """LIST WRITERS."""

    detail: WriterDetail = WriterDetail.METADATA


@dataclass(frozen=True, slots=True)
class ListProviders(Request):
    """LIST PROVIDERS."""


@dataclass(frozen=True, slots=True)
class DeleteShadows(Request):
    """DELETE SHADOWS. guid: of SET and ID. place: of VOLUME, OLDEST and EXPOSED, as typed."""

    scope: Scope
    guid: UUID = GUID_NULL
    place: str = ""


@dataclass(frozen=True, slots=True)
class Expose(Request):
    """EXPOSE. place: as typed."""

    snapshot: UUID
    place: str


@dataclass(frozen=True, slots=True)
class Unexpose(Request):
    """UNEXPOSE: a shadow copy, or the place where one is."""

    snapshot: UUID | None
    place: str


@dataclass(frozen=True, slots=True)
class Break(Request):
    """BREAK. target: a set, or a copy of it."""

    target: UUID
    is_writable: bool = False


@dataclass(frozen=True, slots=True)
class Mask(Request):
    """MASK. target: a set, or a copy of it."""

    target: UUID


@dataclass(frozen=True, slots=True)
class Reset(Request):
    """RESET."""


@dataclass(frozen=True, slots=True)
class Exec(Request):
    """EXEC. file: as typed."""

    file: str


@dataclass(frozen=True, slots=True)
class Help(Request):
    """HELP."""


@dataclass(frozen=True, slots=True)
class Exit(Request):
    """EXIT."""
