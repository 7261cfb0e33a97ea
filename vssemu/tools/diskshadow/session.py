"""The state of one DiskShadow: settings, the set in the making, aliases, held objects.

Owns which command is legal when, as a table:

    idle -- begin backup --> backup open -- create --> backup created -- end backup --> idle
    idle -- create --> created -- end backup --> idle

Loaded metadata stands beside it: `import` needs it, whatever the backup does. All that is not
in the table is legal always. Source: tools.md A.4.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vssemu.api.blocking import BackupComponents
from vssemu.api.plans import ExaminedWriter
from vssemu.tools.diskshadow.aliases import Aliases
from vssemu.tools.diskshadow.console import Console
from vssemu.tools.diskshadow.failures import Failed
from vssemu.tools.diskshadow.paths import Roots
from vssemu.tools.diskshadow.requester import Requester, release
from vssemu.tools.diskshadow.requests import AddVolume, WriterRule
from vssemu.vss.attributes import Attribute, Context, has_writers
from vssemu.vss.documents.cabinet import Cabinet
from vssemu.vss.documents.writer import ComponentInfo


class Stage(Enum):
    """How far the backup is; the value completes "...: <value>"."""

    IDLE = "no backup session is open"
    BACKUP_OPEN = "a backup session is open"
    CREATED = "the shadow copy set has been created"
    BACKUP_CREATED = "the shadow copy set of the backup session has been created"


class Act(Enum):
    """The commands whose turn matters."""

    ADD_VOLUME = "ADD VOLUME"
    WRITER = "WRITER"
    BEGIN_BACKUP = "BEGIN BACKUP"
    CREATE = "CREATE"
    END_BACKUP = "END BACKUP"


NEXT: Final[Mapping[Stage, Mapping[Act, Stage]]] = MappingProxyType(
    {
        Stage.IDLE: {
            Act.ADD_VOLUME: Stage.IDLE,
            Act.WRITER: Stage.IDLE,
            Act.BEGIN_BACKUP: Stage.BACKUP_OPEN,
            Act.CREATE: Stage.CREATED,
            Act.END_BACKUP: Stage.IDLE,
        },
        Stage.BACKUP_OPEN: {
            Act.ADD_VOLUME: Stage.BACKUP_OPEN,
            Act.WRITER: Stage.BACKUP_OPEN,
            Act.CREATE: Stage.BACKUP_CREATED,
            Act.END_BACKUP: Stage.IDLE,
        },
        Stage.CREATED: {Act.END_BACKUP: Stage.IDLE},
        Stage.BACKUP_CREATED: {Act.END_BACKUP: Stage.IDLE},
    }
)

OPEN: Final = frozenset({Stage.BACKUP_OPEN, Stage.BACKUP_CREATED})
"""The stages that BEGIN BACKUP leads to and END BACKUP leaves."""


def after(stage: Stage, act: Act) -> Stage:
    """Return the stage that a command leads to. Raises Failed when it is not its turn."""
    row = NEXT[stage]
    if act not in row:
        hint = "END BACKUP or RESET first" if Act.END_BACKUP in row else "RESET first"
        raise Failed(f"{act.value} is not possible now: {stage.value}. Use {hint}.")
    return row[act]


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingVolume:
    r"""A volume of the set in the making.

    name: as the API takes it. shown: its letter `F:\` if it has one.
    """

    request: AddVolume
    name: str
    guid_name: str
    shown: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Created:
    """What CREATE left for END BACKUP: the object, and the components that it included."""

    vss_object: BackupComponents
    has_writers: bool
    components: tuple[tuple[ExaminedWriter, ComponentInfo], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What LOAD METADATA read."""

    file: Path
    cabinet: Cabinet


NO_OPTIONS: Final = Attribute(0)


@dataclass
class Settings:
    """What the SET commands set. metadata: None is a name made at CREATE."""

    context: Context = Context.BACKUP
    options: Attribute = NO_OPTIONS
    metadata: Path | None = None
    is_verbose: bool = False

    @property
    def mask(self) -> int:
        """The context with its modifiers, as SetContext takes it."""
        return int(self.context) | int(self.options)


@dataclass(kw_only=True)
class Session:
    """One DiskShadow from its start to its end."""

    console: Console
    requester: Requester
    roots: Roots = field(default_factory=Roots)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    settings: Settings = field(default_factory=Settings)
    stage: Stage = Stage.IDLE
    volumes: list[PendingVolume] = field(default_factory=list)
    rules: list[WriterRule] = field(default_factory=list)
    created: Created | None = None
    loaded: Loaded | None = None
    held: list[BackupComponents] = field(default_factory=list)
    aliases: Aliases = field(init=False)

    def __post_init__(self) -> None:
        self.aliases = Aliases(self.environment)

    def check(self, act: Act) -> None:
        """Raise Failed unless it is the command's turn."""
        after(self.stage, act)

    def move(self, act: Act) -> None:
        """Note that a command has been done."""
        self.stage = after(self.stage, act)

    def verbose(self, *lines: str) -> None:
        """Print lines if the user wants details."""
        if self.settings.is_verbose:
            self.console.lines(lines)

    @property
    def owes_backup_complete(self) -> bool:
        """Whether leaving now leaves writers without BackupComplete."""
        if self.stage not in OPEN:
            return False
        return (
            has_writers(self.settings.mask) if self.created is None else self.created.has_writers
        )

    def release_all(self) -> None:
        """Release every object: volatile copies end, the writers of an open backup too."""
        while self.held:
            release(self.held.pop())
        self.created = None

    def reset(self) -> None:
        """Go back to how a session begins, and release every object."""
        self.release_all()
        self.settings = Settings()
        self.stage = Stage.IDLE
        self.volumes.clear()
        self.rules.clear()
        self.loaded = None
        self.aliases.clear()
