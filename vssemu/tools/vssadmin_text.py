r"""What vssadmin prints: the shapes of its listings, line by line.

Pure. Labels, indentation and words are what scripts match; nothing here may be reworded.
"""

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from vssemu.tools.provider import ProviderFacts
from vssemu.tools.shadows import ShadowFacts, WriterFacts
from vssemu.tools.windows_text import clock, place_of
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.enums import WriterState
from vssemu.vss.host import Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import braced

BANNER = (
    "vssadmin 1.1 - Volume Shadow Copy Service administrative command-line tool",
    "(C) Copyright 2001-2013 Microsoft Corp.",
    "",
)
WAITING = (
    "Waiting for responses.",
    "These may be delayed if a shadow copy is being prepared.",
    "",
)
NOTHING = "No items found that satisfy the query."

_ATTRIBUTE_WORDS = (
    (Attribute.PERSISTENT, "Persistent"),
    (Attribute.CLIENT_ACCESSIBLE, "Client-accessible"),
    (Attribute.NO_AUTO_RELEASE, "No auto release"),
    (Attribute.NO_WRITERS, "No writers"),
    (Attribute.TRANSPORTABLE, "Transportable"),
    (Attribute.HARDWARE_ASSISTED, "Hardware assisted"),
    (Attribute.DIFFERENTIAL, "Differential"),
    (Attribute.PLEX, "Plex"),
    (Attribute.IMPORTED, "Imported"),
    (Attribute.EXPOSED_LOCALLY, "Exposed locally"),
    (Attribute.EXPOSED_REMOTELY, "Exposed remotely"),
    (Attribute.AUTORECOVER, "Auto recovered"),
)
_TYPES = {
    Context.BACKUP.name: "Backup",
    Context.FILE_SHARE_BACKUP.name: "FileShareBackup",
    Context.NAS_ROLLBACK.name: "NASRollback",
    Context.APP_ROLLBACK.name: "ApplicationRollback",
    Context.CLIENT_ACCESSIBLE.name: "ClientAccessible",
    Context.CLIENT_ACCESSIBLE_WRITERS.name: "ClientAccessibleWriters",
}
_STATES = {
    WriterState.UNKNOWN: "Unknown",
    WriterState.STABLE: "Stable",
    WriterState.WAITING_FOR_FREEZE: "Waiting for freeze",
    WriterState.WAITING_FOR_THAW: "Waiting for thaw",
    WriterState.WAITING_FOR_POST_SNAPSHOT: "Waiting for post-snapshot",
    WriterState.WAITING_FOR_BACKUP_COMPLETE: "Waiting for completion",
}
_LAST_ERRORS = {
    Hresult.S_OK: "No error",
    Hresult.VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT: "Inconsistent shadow copy",
    Hresult.VSS_E_WRITERERROR_OUTOFRESOURCES: "Out of resources",
    Hresult.VSS_E_WRITERERROR_TIMEOUT: "Timed out",
    Hresult.VSS_E_WRITERERROR_RETRYABLE: "Retryable error",
    Hresult.VSS_E_WRITERERROR_NONRETRYABLE: "Non-retryable error",
    Hresult.VSS_E_WRITERERROR_PARTIAL_FAILURE: "Partial failure",
    Hresult.VSS_E_WRITER_NOT_RESPONDING: "Writer not responding",
}


def shadows_text(
    shadows: Sequence[ShadowFacts], places: Mapping[str, str], providers: Mapping[UUID, str]
) -> Iterator[str]:
    """Yield the lines of `list shadows`, one block a set, in the order of the sets.

    places: by volume name, the letter or folder of the volumes of this host; providers: names.
    """
    sets: dict[UUID, list[ShadowFacts]] = {}
    for shadow in shadows:
        sets.setdefault(shadow.set_id, []).append(shadow)
    for set_id, members in sets.items():
        count, when = members[0].snapshots_count, clock(members[0].created.astimezone())
        yield f"Contents of shadow copy set ID: {braced(set_id)}"
        yield f"   Contained {count} shadow copies at creation time: {when}"
        for shadow in members:
            yield from _shadow(shadow, places, providers)


def _shadow(
    shadow: ShadowFacts, places: Mapping[str, str], providers: Mapping[UUID, str]
) -> Iterator[str]:
    volume = shadow.original_volume
    provider = providers.get(shadow.provider_id, braced(shadow.provider_id))
    bits = shadow.bits
    words = ", ".join(word for bit, word in _ATTRIBUTE_WORDS if bit in bits)
    yield f"      Shadow Copy ID: {braced(shadow.id)}"
    yield f"         Original Volume: ({places.get(volume, '?')}){volume}"
    yield f"         Shadow Copy Volume: {shadow.device_object}"
    yield f"         Originating Machine: {shadow.originating_machine}"
    yield f"         Service Machine: {shadow.service_machine}"
    yield f"         Provider: '{provider}'"
    yield f"         Type: {_TYPES.get(shadow.context, 'Unknown')}"
    yield f"         Attributes: {words}"
    yield ""


def writers_text(writers: Sequence[WriterFacts]) -> Iterator[str]:
    """Yield the lines of `list writers`."""
    for writer in writers:
        state = _STATES.get(WriterState(writer.state_number), "Failed")
        code = Hresult(writer.failure_code)
        yield f"Writer name: '{writer.name}'"
        yield f"   Writer Id: {braced(writer.id)}"
        yield f"   Writer Instance Id: {braced(writer.instance_id)}"
        yield f"   State: [{writer.state_number}] {state}"
        yield f"   Last error: {_LAST_ERRORS.get(code, f'Unexpected error ({code})')}"
        yield ""


def providers_text(providers: Sequence[ProviderFacts]) -> Iterator[str]:
    """Yield the lines of `list providers`."""
    for provider in providers:
        yield f"Provider name: '{provider.name}'"
        yield f"   Provider type: {provider.type.capitalize()}"
        yield f"   Provider Id: {{{provider.id}}}"
        yield f"   Version: {provider.version}"
        yield ""


def volumes_text(volumes: Sequence[Volume]) -> Iterator[str]:
    """Yield the lines of `list volumes`."""
    for volume in volumes:
        yield f"Volume path: {place_of(volume) or volume.name}"
        yield f"    Volume name: {volume.name}"
        yield ""
