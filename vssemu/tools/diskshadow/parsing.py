"""The words after a command's keywords, made into a request. Pure; raises Misused.

Each parser is handed the expanded words. A list of facts that one line can carry, such as
options, is checked as a whole. Source: tools.md A.5.
"""

from contextlib import suppress
from typing import Final
from uuid import UUID

from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.aliases import is_alias_name
from vssemu.tools.diskshadow.failures import Misused
from vssemu.tools.diskshadow.requests import Scope, WriterDetail
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.identity import ProviderId, parse_guid

Words = list[str]

_CONTEXTS: Final = {
    ("clientaccessible",): Context.CLIENT_ACCESSIBLE,
    ("persistent",): Context.APP_ROLLBACK,
    ("persistent", "nowriters"): Context.NAS_ROLLBACK,
    ("volatile",): Context.BACKUP,
    ("volatile", "nowriters"): Context.FILE_SHARE_BACKUP,
}
OPTIONS: Final = {
    "differential": Attribute.DIFFERENTIAL,
    "plex": Attribute.PLEX,
    "transportable": Attribute.TRANSPORTABLE,
    "rollbackrecover": Attribute.ROLLBACK_RECOVERY,
    "txfrecover": Attribute.TXF_RECOVERY,
    "noautorecover": Attribute.NO_AUTORECOVERY,
}
_EXCLUSIVE: Final = (
    ("differential", "plex"),
    ("noautorecover", "rollbackrecover"),
    ("noautorecover", "txfrecover"),
)


def nothing(request: requests.Request, words: Words) -> requests.Request:
    """Return the request of a command without arguments."""
    if words:
        raise Misused(f'Unexpected: "{words[0]}".')
    return request


def set_context(words: Words) -> requests.SetContext:
    """Read a context."""
    context = _CONTEXTS.get(tuple(word.lower() for word in words))
    if context is None:
        raise _no_context(words)
    return requests.SetContext(context)


def _no_context(words: Words) -> Misused:
    if not words:
        return Misused()
    text = " ".join(words)
    if text.lower() in OPTIONS:
        return Misused(f'No such context: "{text}"; it is an option: SET OPTION {text.upper()}.')
    return Misused(f'No such context: "{text}".')


def set_option(words: Words) -> requests.SetOption:
    """Read options; several may stand in one command."""
    given = [word.lower() for word in words]
    if not given:
        raise Misused()
    for word in given:
        if word not in OPTIONS:
            raise Misused(f'No such option: "{word}".')
    for one, other in _EXCLUSIVE:
        if one in given and other in given:
            raise Misused(f"{one} and {other} exclude each other.")
    options = Attribute(0)
    for word in given:
        options |= OPTIONS[word]
    return requests.SetOption(options)


def set_metadata(words: Words) -> requests.SetMetadata:
    """Read the name of a cabinet."""
    return requests.SetMetadata(_one(words, "file"))


def set_verbose(words: Words) -> requests.SetVerbose:
    """Read on or off."""
    if len(words) != 1 or words[0].lower() not in {"on", "off"}:
        raise Misused()
    return requests.SetVerbose(words[0].lower() == "on")


def add_volume(words: Words) -> requests.AddVolume:
    """Read a volume and its clauses, which may stand in either order."""
    if len(words) % 2 == 0:
        raise Misused()
    clauses: dict[str, str] = {}
    for word, value in zip(words[1::2], words[2::2], strict=True):
        key = word.lower()
        if key not in {"provider", "alias"} or key in clauses:
            raise Misused(f'Unexpected: "{word}".')
        clauses[key] = value
    alias = clauses.get("alias")
    if alias is not None:
        _check_alias(alias)
    named = clauses.get("provider")
    provider = None if named is None else ProviderId(_guid(named, "provider ID"))
    return requests.AddVolume(words[0], provider, alias)


def add_alias(words: Words) -> requests.AddAlias:
    """Read name and value."""
    if len(words) != 2:
        raise Misused()
    _check_alias(words[0])
    return requests.AddAlias(words[0], words[1])


def writer_verify(words: Words) -> requests.WriterRule:
    """Read a writer or component that must take part."""
    return _writer_rule(words, is_excluded=False)


def writer_exclude(words: Words) -> requests.WriterRule:
    """Read a writer or component that is left out."""
    return _writer_rule(words, is_excluded=True)


def _writer_rule(words: Words, *, is_excluded: bool) -> requests.WriterRule:
    # Names have blanks, and people write them with and without quotes.
    text = " ".join(words).strip()
    if not text:
        raise Misused()
    writer, separator, path = text.partition(":\\")
    if separator and not (writer and path.strip("\\")):
        raise Misused(f'Neither a writer nor a component: "{text}".')
    component = "\\" + path.strip("\\") if separator else None
    return requests.WriterRule(writer, component, is_excluded)


def load_metadata(words: Words) -> requests.LoadMetadata:
    """Read the name of a cabinet."""
    return requests.LoadMetadata(_one(words, "file"))


def list_shadows(words: Words) -> requests.ListShadows:
    """Read which copies to list."""
    scope = _scope(words, (Scope.ALL, Scope.SET, Scope.ID))
    if scope is Scope.ALL:
        return requests.ListShadows(scope)
    return requests.ListShadows(scope, _id(words[1], scope))


def list_writers(words: Words) -> requests.ListWriters:
    """Read how much to tell of writers."""
    if not words:
        return requests.ListWriters()
    try:
        return requests.ListWriters(WriterDetail(" ".join(words).lower()))
    except ValueError:
        raise Misused(f'Unexpected: "{" ".join(words)}".') from None


def delete_shadows(words: Words) -> requests.DeleteShadows:
    """Read which copies to delete."""
    scope = _scope(words, tuple(Scope))
    if scope is Scope.ALL:
        return requests.DeleteShadows(scope)
    if scope in {Scope.SET, Scope.ID}:
        return requests.DeleteShadows(scope, guid=_id(words[1], scope))
    return requests.DeleteShadows(scope, place=words[1])


def expose(words: Words) -> requests.Expose:
    """Read a copy and a place."""
    if len(words) != 2:
        raise Misused()
    return requests.Expose(_id(words[0], Scope.ID), words[1])


def unexpose(words: Words) -> requests.Unexpose:
    """Read a copy or a place."""
    text = _one(words, "shadow copy or place")
    if text.startswith("{"):
        return requests.Unexpose(_id(text, Scope.ID), text)
    return requests.Unexpose(None, text)


def break_set(words: Words) -> requests.Break:
    """Read a set and the words before it."""
    if not words:
        raise Misused()
    given = {word.lower() for word in words[:-1]}
    if unknown := given - {"writable", "readwrite", "norevertid"}:
        raise Misused(f'Unexpected: "{min(unknown)}".')
    return requests.Break(_id(words[-1], Scope.SET), bool(given & {"writable", "readwrite"}))


def mask(words: Words) -> requests.Mask:
    """Read a set."""
    return requests.Mask(_id(_one(words, "shadow copy set ID"), Scope.SET))


def exec_file(words: Words) -> requests.Exec:
    """Read a file name, which is the rest of the line."""
    if not words:
        raise Misused()
    return requests.Exec(" ".join(words))


def _one(words: Words, what: str) -> str:
    if len(words) != 1 or not words[0]:
        raise Misused(f'Unexpected: "{words[1]}"; give one {what}.') if words[1:] else Misused()
    return words[0]


def _scope(words: Words, legal: tuple[Scope, ...]) -> Scope:
    if not words:
        raise Misused()
    found = next((scope for scope in legal if scope.value == words[0].lower()), None)
    if found is None:
        raise Misused(f'Unexpected: "{words[0]}".')
    if len(words) != (1 if found is Scope.ALL else 2):
        raise Misused()
    return found


def _id(text: str, scope: Scope) -> UUID:
    return _guid(text, "shadow copy set ID" if scope is Scope.SET else "shadow copy ID")


def _guid(text: str, what: str) -> UUID:
    """Return an id, which users write in braces."""
    with suppress(ValueError):
        if text.startswith("{"):
            return parse_guid(text)
    raise Misused(f'"{text}" is no {what}; it has the form {{8-4-4-4-12}}.')


def _check_alias(name: str) -> None:
    if not is_alias_name(name):
        raise Misused(f'"{name}" cannot be an alias.')
