r"""The blocks that DiskShadow lists: shadow copies, writers, providers. Pure.

Indentation is by tabs, labels are those that scripts match. Source: tools.md A.6 to A.8, B.8.
"""

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from vssemu.tools.diskshadow.aliases import SET_ALIAS, Aliases
from vssemu.tools.windows_text import clock, place_of
from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import ProviderType
from vssemu.vss.host import Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import braced
from vssemu.vss.snapshot import ProviderProperties, SnapshotProperties, from_filetime
from vssemu.vss.writer import WriterStatus

NO_COPIES: Final = "No shadow copies found in system."

_WORDS: Final = (
    (Attribute.PERSISTENT, "Persistent"),
    (Attribute.CLIENT_ACCESSIBLE, "Client_accessible"),
    (Attribute.HARDWARE_ASSISTED, "Hardware"),
    (Attribute.NO_WRITERS, "No_Writers"),
    (Attribute.IMPORTED, "Imported"),
    (Attribute.PLEX, "Plex"),
    (Attribute.DIFFERENTIAL, "Differential"),
    (Attribute.FILE_SHARE, "FileShare"),
)


def attribute_words(attributes: Attribute) -> str:
    """Return the words of attributes, each with a blank before it."""
    words = ["Transportable"] if Attribute.TRANSPORTABLE in attributes else []
    released = Attribute.NO_AUTO_RELEASE not in attributes
    words.append("Auto_Release" if released else "No_Auto_Release")
    words += [word for bit, word in _WORDS if bit in attributes]
    return "".join(f" {word}" for word in words)


def friendly_name(volume_name: str, volumes: Iterable[Volume]) -> str:
    r"""Return what stands in brackets behind a volume's name: `F:\`, a folder, or why none."""
    for volume in volumes:
        if volume.name.lower() == volume_name.lower():
            return place_of(volume) or "volume has no mount point"
    return "volume not on this machine"


def shadow_copy(
    copy: SnapshotProperties,
    aliases: Aliases,
    volumes: Sequence[Volume],
    zone: tzinfo | None = None,
) -> list[str]:
    """Return the block of one shadow copy. zone: None is local time."""
    created = clock(from_filetime(copy.creation_timestamp).astimezone(zone))
    friendly = friendly_name(copy.original_volume_name, volumes)
    alias = aliases.name_of(braced(copy.snapshot_id))
    set_alias = aliases.name_of(braced(copy.snapshot_set_id))
    if set_alias is not None and aliases.lookup(SET_ALIAS) == braced(copy.snapshot_set_id):
        set_alias = SET_ALIAS
    return [
        f"\t* Shadow copy ID = {braced(copy.snapshot_id)}"
        + ("" if alias is None else f"\t\t%{alias}%"),
        f"\t\t- Shadow copy set: {braced(copy.snapshot_set_id)}"
        + ("" if set_alias is None else f"\t%{set_alias}%"),
        f"\t\t- Original count of shadow copies = {copy.snapshots_count}",
        f"\t\t- Original volume name: {copy.original_volume_name} [{friendly}]",
        f"\t\t- Creation time: {created}",
        f"\t\t- Shadow copy device name: {copy.device_object}",
        f"\t\t- Originating machine: {copy.originating_machine}",
        f"\t\t- Service machine: {copy.service_machine}",
        *(f"\t\t- {line}" for line in _exposure(copy)),
        f"\t\t- Provider ID: {braced(copy.provider_id)}",
        f"\t\t- Attributes: {attribute_words(copy.attributes)}",
        "",
    ]


def _exposure(copy: SnapshotProperties) -> list[str]:
    if not copy.exposed_name:
        return ["Not exposed"]
    if Attribute.EXPOSED_REMOTELY in copy.attributes:
        lines = [f"Exposed remotely as {copy.exposed_name}"]
        return [*lines, f"Path exposed: {copy.exposed_path}"] if copy.exposed_path else lines
    return [f"Exposed locally as: {copy.exposed_name}"]


def shadow_copies(
    copies: Sequence[SnapshotProperties],
    aliases: Aliases,
    volumes: Sequence[Volume],
    zone: tzinfo | None = None,
) -> list[str]:
    """Return the blocks of shadow copies and the count."""
    if not copies:
        return [NO_COPIES]
    lines = [line for copy in copies for line in shadow_copy(copy, aliases, volumes, zone)]
    return [*lines, f"Number of shadow copies listed: {len(copies)}"]


def failure_code(code: Hresult) -> str:
    """Return an HRESULT as writer listings show it."""
    return f"0x{code.value:08x} ({code.name})"


def writer_status(status: WriterStatus) -> list[str]:
    """Return the block of one writer in LIST WRITERS STATUS."""
    return [
        f"* WRITER {status.name}",
        f"\t- Status: {status.state.value} (VSS_WS_{status.state.name})",
        f"\t- Writer Failure code: {failure_code(status.failure)}",
        f"\t- Writer ID: {braced(status.writer_id)}",
        f"\t- Instance ID: {braced(status.instance_id)}",
    ]


def writers_footer(count: int) -> str:
    """Return the last line of a writer listing."""
    return f"{count} writer{'' if count == 1 else 's'} listed."


_PROVIDER_TYPES: Final = {
    ProviderType.SYSTEM: "VSS_PROV_SYSTEM",
    ProviderType.SOFTWARE: "VSS_PROV_SOFTWARE",
    ProviderType.HARDWARE: "VSS_PROV_HARDWARE",
    ProviderType.FILESHARE: "VSS_PROV_FILESHARE",
    ProviderType.UNKNOWN: "VSS_PROV_UNKNOWN",
}


def provider(properties: ProviderProperties) -> list[str]:
    """Return the block of one provider."""
    kind = properties.type
    return [
        f"* ProviderID: {braced(properties.provider_id)}",
        f"\tType: [{kind.value}] {_PROVIDER_TYPES[kind]}",
        f"\tName: {properties.name}",
        f"\tVersion: {properties.version}",
        f"\tCLSID: {braced(properties.class_id)}",
    ]


def providers(found: Sequence[ProviderProperties]) -> list[str]:
    """Return the blocks of providers and the count."""
    lines = [line for one in found for line in provider(one)]
    return [*lines, f"{len(found)} provider{'' if len(found) == 1 else 's'} registered."]
