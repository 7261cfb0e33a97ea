r"""The commands of DiskShadow as data: keywords, syntax, help, and the parser of arguments.

A program can list them (`COMMANDS`); a line is matched against the keywords alone, which may
be in any case and cannot be shortened. Source: tools.md A.5, and A.2 for the help blocks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from vssemu.tools.diskshadow import parsing, requests
from vssemu.tools.diskshadow.failures import Misused

Parser = Callable[[list[str]], requests.Request]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command. keywords: in lower case. explanations: one line for each argument."""

    keywords: tuple[str, ...]
    syntax: str
    summary: str
    parse: Parser
    explanations: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The keywords as help prints them."""
        return " ".join(self.keywords).upper()

    def help_block(self) -> list[str]:
        """Return the lines that a wrong use of the command prints."""
        lines = ["", self.syntax, f"\t{self.summary}"]
        width = max((len(argument) for argument, _ in self.explanations), default=0)
        lines += [f"\t{argument:<{width}}  {text}" for argument, text in self.explanations]
        return lines


def _group(*keywords: str, alone: requests.Request | None = None) -> Parser:
    """Return the parser of words that begin commands. alone: what they ask for by themselves."""

    def parse(words: list[str]) -> requests.Request:
        if words:
            raise Misused(f'"{words[0]}" is no {" ".join(keywords).upper()} command.')
        if alone is None:
            raise Misused()
        return alone

    return parse


def _plain(request: requests.Request) -> Parser:
    return partial(parsing.nothing, request)


_SHADOW_ID: Final = ("<ShadowID>", "ID or %alias% of a shadow copy.")
_SET_ID: Final = ("<SetID>", "ID or %alias% of a shadow copy set.")

COMMANDS: Final[tuple[Command, ...]] = (
    Command(
        keywords=("set",),
        syntax="SET { CONTEXT | OPTION | METADATA | VERBOSE }",
        summary="Sets what CREATE does; alone, lists the settings.",
        parse=_group("set", alone=requests.ShowSettings()),
    ),
    Command(
        keywords=("set", "context"),
        syntax="SET CONTEXT { CLIENTACCESSIBLE | PERSISTENT [NOWRITERS] | VOLATILE [NOWRITERS] }",
        summary="Sets how long shadow copies live and whether writers take part.",
        parse=parsing.set_context,
        explanations=(
            ("CLIENTACCESSIBLE", "Persistent, without writers, for Previous Versions."),
            ("PERSISTENT", "Kept across EXIT, RESET and restarts."),
            ("VOLATILE", "Deleted at EXIT or RESET. The default."),
            ("NOWRITERS", "Leaves all writers out."),
        ),
    ),
    Command(
        keywords=("set", "option"),
        syntax="SET OPTION { [DIFFERENTIAL | PLEX] [TRANSPORTABLE]"
        " [[ROLLBACKRECOVER] [TXFRECOVER] | NOAUTORECOVER] }",
        summary="Sets options of the next shadow copies, in place of earlier ones.",
        parse=parsing.set_option,
        explanations=(
            ("DIFFERENTIAL", "Copies on write."),
            ("PLEX", "Full copies."),
            ("TRANSPORTABLE", "Not imported here; IMPORT brings them up on any host."),
            ("ROLLBACKRECOVER", "Writers recover their data in the copies."),
            ("TXFRECOVER", "Transactions of the file system are made whole."),
            ("NOAUTORECOVER", "Nobody recovers anything."),
        ),
    ),
    Command(
        keywords=("set", "metadata"),
        syntax="SET METADATA [drive:][path]<name.cab>",
        summary="Sets the file into which CREATE writes the metadata.",
        parse=parsing.set_metadata,
    ),
    Command(
        keywords=("set", "verbose"),
        syntax="SET VERBOSE { ON | OFF }",
        summary="Sets whether CREATE, IMPORT and others tell details.",
        parse=parsing.set_verbose,
    ),
    Command(
        keywords=("add",),
        syntax="ADD { VOLUME | ALIAS }",
        summary="Adds volumes and aliases; alone, lists them.",
        parse=_group("add", alone=requests.ShowSet()),
    ),
    Command(
        keywords=("add", "volume"),
        syntax="ADD VOLUME <volume> [PROVIDER <ProviderID>] [ALIAS <name>]",
        summary="Adds a volume to the shadow copy set.",
        parse=parsing.add_volume,
        explanations=(
            ("<volume>", "Drive letter, mounted folder or volume GUID path."),
            ("<ProviderID>", "The provider that makes the copy."),
            ("<name>", "Alias of the shadow copy; VSS_SHADOW_<n> unless given."),
        ),
    ),
    Command(
        keywords=("add", "alias"),
        syntax="ADD ALIAS <name> <value>",
        summary="Defines an alias; %name% stands for the value.",
        parse=parsing.add_alias,
    ),
    Command(
        keywords=("writer",),
        syntax="WRITER { VERIFY | EXCLUDE } { <writer> | <component> }",
        summary="Rules which writers and components take part.",
        parse=_group("writer"),
    ),
    Command(
        keywords=("writer", "verify"),
        syntax="WRITER VERIFY { <writer> | <component> }",
        summary="CREATE fails unless the writer or component is included.",
        parse=parsing.writer_verify,
        explanations=(
            ("<writer>", "Name, {class ID} or {instance ID}."),
            ("<component>", r"<writer>:\<logical path>\<component name>."),
        ),
    ),
    Command(
        keywords=("writer", "exclude"),
        syntax="WRITER EXCLUDE { <writer> | <component> }",
        summary="Leaves the writer or component out.",
        parse=parsing.writer_exclude,
        explanations=(
            ("<writer>", "Name, {class ID} or {instance ID}."),
            ("<component>", r"<writer>:\<logical path>\<component name>."),
        ),
    ),
    Command(
        keywords=("begin",),
        syntax="BEGIN { BACKUP }",
        summary="Begins a session.",
        parse=_group("begin"),
    ),
    Command(
        keywords=("begin", "backup"),
        syntax="BEGIN BACKUP",
        summary="Begins a full backup session; without it CREATE makes a copy backup.",
        parse=_plain(requests.BeginBackup()),
    ),
    Command(
        keywords=("end",),
        syntax="END { BACKUP }",
        summary="Ends a session.",
        parse=_group("end"),
    ),
    Command(
        keywords=("end", "backup"),
        syntax="END BACKUP",
        summary="Ends the backup session and tells the writers BackupComplete.",
        parse=_plain(requests.EndBackup()),
    ),
    Command(
        keywords=("create",),
        syntax="CREATE",
        summary="Creates the shadow copies of all added volumes at one instant.",
        parse=_plain(requests.Create()),
    ),
    Command(
        keywords=("load",),
        syntax="LOAD { METADATA }",
        summary="Loads a file that CREATE wrote.",
        parse=_group("load"),
    ),
    Command(
        keywords=("load", "metadata"),
        syntax="LOAD METADATA [drive:][path]<name.cab>",
        summary="Loads the metadata of a shadow copy set and its aliases.",
        parse=parsing.load_metadata,
    ),
    Command(
        keywords=("import",),
        syntax="IMPORT",
        summary="Imports the transportable shadow copy set of the loaded metadata.",
        parse=_plain(requests.Import()),
    ),
    Command(
        keywords=("list",),
        syntax="LIST { SHADOWS | WRITERS | PROVIDERS }",
        summary="Lists shadow copies, writers or providers.",
        parse=_group("list"),
    ),
    Command(
        keywords=("list", "shadows"),
        syntax="LIST SHADOWS { ALL | SET <SetID> | ID <ShadowID> }",
        summary="Lists shadow copies on this computer.",
        parse=parsing.list_shadows,
        explanations=(("ALL", "Every shadow copy."), _SET_ID, _SHADOW_ID),
    ),
    Command(
        keywords=("list", "writers"),
        syntax="LIST WRITERS [ METADATA | DETAILED | STATUS ]",
        summary="Lists the writers on this computer.",
        parse=parsing.list_writers,
        explanations=(
            ("METADATA", "Components and excluded files. The default."),
            ("DETAILED", "All file specifications too."),
            ("STATUS", "State and identity alone."),
        ),
    ),
    Command(
        keywords=("list", "providers"),
        syntax="LIST PROVIDERS",
        summary="Lists the registered providers.",
        parse=_plain(requests.ListProviders()),
    ),
    Command(
        keywords=("delete",),
        syntax="DELETE { SHADOWS }",
        summary="Deletes shadow copies.",
        parse=_group("delete"),
    ),
    Command(
        keywords=("delete", "shadows"),
        syntax="DELETE SHADOWS { ALL | VOLUME <volume> | OLDEST <volume> | SET <SetID>"
        " | ID <ShadowID> | EXPOSED { <drive:> | <mount point> } }",
        summary="Deletes shadow copies on this computer, without asking.",
        parse=parsing.delete_shadows,
        explanations=(
            ("ALL", "Every shadow copy."),
            ("VOLUME", "Those of a volume."),
            ("OLDEST", "The oldest one of a volume."),
            ("EXPOSED", "The one exposed at a place."),
            _SET_ID,
            _SHADOW_ID,
        ),
    ),
    Command(
        keywords=("expose",),
        syntax="EXPOSE <ShadowID> { <drive:> | <share> | <mount point> }",
        summary="Exposes a persistent shadow copy.",
        parse=parsing.expose,
        explanations=(
            _SHADOW_ID,
            ("<drive:>", "A drive letter that is not in use."),
            ("<mount point>", "An existing empty folder."),
        ),
    ),
    Command(
        keywords=("unexpose",),
        syntax="UNEXPOSE { <ShadowID> | <drive:> | <share> | <mount point> }",
        summary="Takes back what EXPOSE did; the shadow copy stays.",
        parse=parsing.unexpose,
        explanations=(_SHADOW_ID,),
    ),
    Command(
        keywords=("break",),
        syntax="BREAK [WRITABLE] <SetID>",
        summary="Turns an imported hardware shadow copy set into ordinary volumes.",
        parse=parsing.break_set,
        explanations=(
            ("WRITABLE", "Makes the volumes writable (also READWRITE)."),
            _SET_ID,
        ),
    ),
    Command(
        keywords=("mask",),
        syntax="MASK <SetID>",
        summary="Takes an imported hardware set off this computer; the array keeps it.",
        parse=parsing.mask,
        explanations=(_SET_ID,),
    ),
    Command(
        keywords=("reset",),
        syntax="RESET",
        summary="Forgets all settings; volatile shadow copies end.",
        parse=_plain(requests.Reset()),
    ),
    Command(
        keywords=("exec",),
        syntax="EXEC <file.cmd>",
        summary="Runs a file; the aliases are in its environment.",
        parse=parsing.exec_file,
        explanations=(("<file.cmd>", "The rest of the line, one file name without parameters."),),
    ),
    Command(
        keywords=("help",),
        syntax="HELP",
        summary="Lists the commands; <command> /? explains one.",
        parse=_plain(requests.Help()),
    ),
    Command(
        keywords=("?",),
        syntax="?",
        summary="The same as HELP.",
        parse=_plain(requests.Help()),
    ),
    Command(
        keywords=("exit",),
        syntax="EXIT",
        summary="Leaves DiskShadow; volatile shadow copies end.",
        parse=_plain(requests.Exit()),
    ),
    Command(
        keywords=("quit",),
        syntax="QUIT",
        summary="The same as EXIT.",
        parse=_plain(requests.Exit()),
    ),
)

_BY_KEYWORDS: Final = {command.keywords: command for command in COMMANDS}
_LONGEST: Final = max(len(keywords) for keywords in _BY_KEYWORDS)


def find(words: Iterable[str]) -> tuple[Command, list[str]] | None:
    """Return the command that words begin with and the words that follow, None without one."""
    given = list(words)
    for length in range(min(_LONGEST, len(given)), 0, -1):
        command = _BY_KEYWORDS.get(tuple(word.lower() for word in given[:length]))
        if command is not None:
            return command, given[length:]
    return None


def overview() -> list[str]:
    """Return the lines of HELP."""
    complete = [c for c in COMMANDS if not _begins_others(c)]
    width = max(len(command.name) for command in complete)
    return ["", *(f"  {c.name:<{width}}  {c.summary}" for c in complete)]


def _begins_others(command: Command) -> bool:
    length = len(command.keywords)
    return any(
        other.keywords[:length] == command.keywords and len(other.keywords) > length
        for other in COMMANDS
    )
