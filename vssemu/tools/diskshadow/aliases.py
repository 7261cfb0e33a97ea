"""DiskShadow's aliases: names for shadow copy ids and other values, without regard to case.

Owns the table, what `%NAME%` means (alias, then environment), and the environment of programs
that are run. Source: tools.md A.2, A.5 (add alias, exec).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

SET_ALIAS: Final = "VSS_SHADOW_SET"
_NAME: Final = re.compile(r'[^%="\s\0]+')


class AliasKind(Enum):
    """What an alias stands for; the value is how messages call it."""

    COPY = "shadow ID"
    SET = "shadow set ID"
    USER = "value"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alias:
    """One alias, with its name as it was given."""

    name: str
    value: str
    kind: AliasKind = AliasKind.USER


def default_name(position: int) -> str:
    """Return the alias of the volume at a position of the set, counted from 1."""
    return f"VSS_SHADOW_{position}"


def is_alias_name(text: str) -> bool:
    """Tell whether `%text%` can be written and the environment can carry it."""
    return _NAME.fullmatch(text) is not None


class Aliases:
    """The aliases of one session over an environment, which is only read."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._aliases: dict[str, Alias] = {}

    def __iter__(self) -> Iterator[Alias]:
        return iter(self._aliases.values())

    def __len__(self) -> int:
        return len(self._aliases)

    def put(self, alias: Alias) -> None:
        """Define an alias, in place of one of the same name."""
        self._aliases.pop(alias.name.lower(), None)
        self._aliases[alias.name.lower()] = alias

    def get(self, name: str) -> Alias | None:
        """Return the alias of a name, None without one."""
        return self._aliases.get(name.lower())

    def clear(self) -> None:
        """Forget all aliases."""
        self._aliases.clear()

    def lookup(self, name: str) -> str | None:
        """Return what `%name%` stands for: an alias, else an environment variable, else None."""
        alias = self.get(name)
        if alias is not None:
            return alias.value
        if name in self._environment:
            return self._environment[name]
        return next((v for k, v in self._environment.items() if k.lower() == name.lower()), None)

    def name_of(self, value: str) -> str | None:
        """Return the alias whose value this is, without regard to case; None without one."""
        return next((a.name for a in self if a.value.lower() == value.lower()), None)

    def environment(self) -> dict[str, str]:
        """Return the environment of a program: ours, and each alias in its spelling and capital.

        Windows' variables have no case. An alias never replaces a variable that is there, nor
        becomes one that the program loader obeys: a cabinet comes from another host.
        """
        found = dict(self._environment)
        for alias in self:
            for name in (alias.name, alias.name.upper()):
                if name not in self._environment and not name.startswith("LD_"):
                    found[name] = alias.value
        return found
