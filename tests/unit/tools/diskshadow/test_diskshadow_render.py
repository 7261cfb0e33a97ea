"""The listings, against the shapes that Windows' users and scripts know."""

from datetime import UTC, datetime
from uuid import UUID

from tests.unit.tools.diskshadow.machine import F_GUID, component, volume, writer
from vssemu.tools.diskshadow import render
from vssemu.tools.diskshadow.aliases import Alias, Aliases
from vssemu.tools.diskshadow.render_writers import writer_metadata
from vssemu.tools.windows_text import clock
from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import ProviderType, WriterState
from vssemu.vss.identity import ProviderId, SnapshotId, SnapshotSetId, WriterId, WriterInstanceId
from vssemu.vss.snapshot import ProviderProperties, SnapshotProperties, filetime
from vssemu.vss.writer import WriterStatus

COPY = UUID("88b2d1ef-3c55-4d9f-a7e4-706f5e4d3c2c")
SET = UUID("4c1d0e6f-8b41-4b2d-8c66-1e3c8d2f0a12")
SYSTEM = UUID("b5946137-7b9f-4925-af80-51abd60b20d5")


def copy(**values: object) -> SnapshotProperties:
    facts = {
        "snapshot_id": SnapshotId(COPY),
        "snapshot_set_id": SnapshotSetId(SET),
        "snapshots_count": 1,
        "device_object": "/run/vssemu/GLOBALROOT/Device/HarddiskVolumeShadowCopy2",
        "original_volume_name": f"\\\\?\\Volume{{{F_GUID}}}\\",
        "originating_machine": "host.domain",
        "service_machine": "host.domain",
        "provider_id": ProviderId(SYSTEM),
        "attributes": Attribute.PERSISTENT
        | Attribute.NO_AUTO_RELEASE
        | Attribute.NO_WRITERS
        | Attribute.DIFFERENTIAL,
        "creation_timestamp": filetime(datetime(2020, 10, 5, 16, 30, 40, tzinfo=UTC)),
    }
    return SnapshotProperties(**(facts | values))  # type: ignore[arg-type]


def aliases() -> Aliases:
    found = Aliases({})
    found.put(Alias(name="alias", value=f"{{{COPY}}}"))
    found.put(Alias(name="VSS_SHADOW_SET", value=f"{{{SET}}}"))
    return found


def test_a_shadow_copy_block_has_the_documented_lines() -> None:
    volumes = [volume(F_GUID, "C", "6a" * 16)]
    assert render.shadow_copy(copy(), aliases(), volumes, UTC) == [
        f"\t* Shadow copy ID = {{{COPY}}}\t\t%alias%",
        f"\t\t- Shadow copy set: {{{SET}}}\t%VSS_SHADOW_SET%",
        "\t\t- Original count of shadow copies = 1",
        f"\t\t- Original volume name: \\\\?\\Volume{{{F_GUID}}}\\ [C:\\]",
        "\t\t- Creation time: 10/5/2020 4:30:40 PM",
        "\t\t- Shadow copy device name: /run/vssemu/GLOBALROOT/Device/HarddiskVolumeShadowCopy2",
        "\t\t- Originating machine: host.domain",
        "\t\t- Service machine: host.domain",
        "\t\t- Not exposed",
        f"\t\t- Provider ID: {{{SYSTEM}}}",
        "\t\t- Attributes:  No_Auto_Release Persistent No_Writers Differential",
        "",
    ]


def test_without_aliases_the_lines_end_with_the_ids() -> None:
    lines = render.shadow_copy(copy(), Aliases({}), [], UTC)
    assert lines[0] == f"\t* Shadow copy ID = {{{COPY}}}"
    assert lines[1] == f"\t\t- Shadow copy set: {{{SET}}}"
    assert lines[3].endswith("\\ [volume not on this machine]")


def test_exposed_copies_tell_where() -> None:
    exposed = copy(exposed_name="R:\\")
    assert "\t\t- Exposed locally as: R:\\" in render.shadow_copy(exposed, aliases(), [], UTC)


def test_attribute_words_come_in_their_order() -> None:
    everything = (
        Attribute.TRANSPORTABLE
        | Attribute.PERSISTENT
        | Attribute.CLIENT_ACCESSIBLE
        | Attribute.HARDWARE_ASSISTED
        | Attribute.NO_WRITERS
        | Attribute.IMPORTED
        | Attribute.PLEX
        | Attribute.DIFFERENTIAL
        | Attribute.FILE_SHARE
    )
    assert render.attribute_words(everything) == (
        " Transportable Auto_Release Persistent Client_accessible Hardware No_Writers"
        " Imported Plex Differential FileShare"
    )


def test_a_listing_ends_with_its_count() -> None:
    listed = render.shadow_copies([copy(), copy()], aliases(), [], UTC)
    assert listed[-1] == "Number of shadow copies listed: 2"
    assert render.shadow_copies([], aliases(), []) == ["No shadow copies found in system."]


def test_midnight_and_noon_are_twelve() -> None:
    assert clock(datetime(2020, 1, 2, 0, 3, 4)) == "1/2/2020 12:03:04 AM"
    assert clock(datetime(2020, 1, 2, 12, 3, 4)) == "1/2/2020 12:03:04 PM"


def test_writer_status_is_the_documented_sample() -> None:
    status = WriterStatus(
        instance_id=WriterInstanceId(COPY),
        writer_id=WriterId(UUID("e8132975-6f93-4464-a53e-1050253ae220")),
        name="System Writer",
        state=WriterState.WAITING_FOR_BACKUP_COMPLETE,
    )
    assert render.writer_status(status) == [
        "* WRITER System Writer",
        "\t- Status: 5 (VSS_WS_WAITING_FOR_BACKUP_COMPLETE)",
        "\t- Writer Failure code: 0x00000000 (S_OK)",
        "\t- Writer ID: {e8132975-6f93-4464-a53e-1050253ae220}",
        f"\t- Instance ID: {{{COPY}}}",
    ]
    assert render.writers_footer(8) == "8 writers listed."


def test_providers_are_listed_as_documented() -> None:
    one = ProviderProperties(
        provider_id=ProviderId(SYSTEM),
        name="Microsoft Software Shadow Copy provider 1.0",
        type=ProviderType.SYSTEM,
        version="1.0.0.7",
        version_id=UUID(int=1),
        class_id=UUID("65ee1dba-8ff4-4a58-ac1c-3470ee2f376a"),
    )
    assert render.providers([one]) == [
        f"* ProviderID: {{{SYSTEM}}}",
        "\tType: [1] VSS_PROV_SYSTEM",
        "\tName: Microsoft Software Shadow Copy provider 1.0",
        "\tVersion: 1.0.0.7",
        "\tCLSID: {65ee1dba-8ff4-4a58-ac1c-3470ee2f376a}",
        "1 provider registered.",
    ]
    assert render.providers([one, one])[-1] == "2 providers registered."


def test_writer_metadata_tells_components_and_files_only_in_detail() -> None:
    metadata = writer(component("ledger", "F:\\stock", logical_path="North"))

    def lines(is_detailed: bool) -> list[str]:
        return writer_metadata(metadata, is_detailed=is_detailed, volume_of=lambda _: "F:\\")

    assert '\t- Component "Stock Writer:\\North\\ledger"' in lines(False)
    assert "\t\t- Type: VSS_CT_FILEGROUP [2]" in lines(False)
    assert "\t\t\t- F:\\" in lines(False)
    files = "\t\t\t- File List: Path = F:\\stock, Filespec = *, Recursive"
    assert files not in lines(False)
    assert files in lines(True)
