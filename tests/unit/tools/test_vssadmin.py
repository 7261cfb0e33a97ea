"""vssadmin against a service on a real socket: shapes that parsers know, codes, JSON."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tests.unit.tools.conftest import FINISHED, PROVIDER, SET, Run, naa, shadow, volume
from tests.unit.tools.scripted import ScriptedService
from vssemu.api.requester import OperationStatus
from vssemu.vss.enums import WriterState
from vssemu.vss.errors import AccessDenied, ObjectNotFound, UnexpectedProviderError
from vssemu.vss.host import GptFlags
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import SnapshotSetId, WriterId, WriterInstanceId, volume_guid_name
from vssemu.vss.writer import WriterStatus

BANNER = (
    "vssadmin 1.1 - Volume Shadow Copy Service administrative command-line tool\n"
    "(C) Copyright 2001-2013 Microsoft Corp.\n"
    "\n"
)
F, G = (volume_guid_name(UUID(int=ord(letter))) for letter in "FG")
OTHER_SET = SnapshotSetId(UUID("bbbbbbbb-0000-4000-8000-000000000002"))

Vssadmin = Callable[..., Awaitable[tuple[int, str]]]
AsJson = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def vssadmin(vssemu: Run) -> Vssadmin:
    """Return exit status and output without the banner, which must be there."""

    async def run(*arguments: str) -> tuple[int, str]:
        result = await vssemu("vssadmin", *arguments)
        assert result.stdout.startswith(BANNER)
        assert result.stderr == ""
        return result.exit_code, result.stdout.removeprefix(BANNER)

    return run


@pytest.fixture
def as_json(vssemu: Run) -> AsJson:
    async def run(*arguments: str) -> list[dict[str, Any]]:
        result = await vssemu("vssadmin", *arguments, "--json")
        assert result.exit_code == 0
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found

    return run


def writer(name: str, state: WriterState, failure: Hresult = Hresult.S_OK) -> WriterStatus:
    return WriterStatus(
        instance_id=WriterInstanceId(UUID(int=2)),
        writer_id=WriterId(UUID(int=1)),
        name=name,
        state=state,
        failure=failure,
    )


async def test_shadow_copies_are_listed_set_by_set_in_windows_shape(
    host: ScriptedService, vssadmin: Vssadmin, answers: dict[str, Any], utc: None
) -> None:
    morning = datetime(2022, 6, 1, 0, 5, 9, tzinfo=UTC)
    answers["query"] = [
        shadow(1, "F", attributes=0x1D | 0x20000),
        shadow(3, "Q", attributes=0xB0029, set_id=OTHER_SET, count=1, moment=morning),
        shadow(2, "G", attributes=0x1D | 0x20000),
    ]
    status, output = await vssadmin("list", "shadows")
    assert status == 0
    assert output == (
        "Contents of shadow copy set ID: {aaaaaaaa-0000-4000-8000-000000000001}\n"
        "   Contained 2 shadow copies at creation time: 5/31/2022 1:45:05 PM\n"
        "      Shadow Copy ID: {00000000-0000-0000-0000-000000000001}\n"
        f"         Original Volume: (F:){F}\n"
        "         Shadow Copy Volume:"
        " /run/vssemu/GLOBALROOT/Device/HarddiskVolumeShadowCopy1\n"
        "         Originating Machine: systemOne\n"
        "         Service Machine: systemTwo\n"
        "         Provider: 'Array Provider'\n"
        "         Type: ClientAccessible\n"
        "         Attributes: Persistent, Client-accessible, No auto release, No writers,"
        " Differential\n"
        "\n"
        "      Shadow Copy ID: {00000000-0000-0000-0000-000000000002}\n"
        f"         Original Volume: (G:){G}\n"
        "         Shadow Copy Volume:"
        " /run/vssemu/GLOBALROOT/Device/HarddiskVolumeShadowCopy2\n"
        "         Originating Machine: systemOne\n"
        "         Service Machine: systemTwo\n"
        "         Provider: 'Array Provider'\n"
        "         Type: ClientAccessible\n"
        "         Attributes: Persistent, Client-accessible, No auto release, No writers,"
        " Differential\n"
        "\n"
        "Contents of shadow copy set ID: {bbbbbbbb-0000-4000-8000-000000000002}\n"
        "   Contained 1 shadow copies at creation time: 6/1/2022 12:05:09 AM\n"
        "      Shadow Copy ID: {00000000-0000-0000-0000-000000000003}\n"
        f"         Original Volume: (?){volume_guid_name(UUID(int=ord('Q')))}\n"
        "         Shadow Copy Volume:"
        " /run/vssemu/GLOBALROOT/Device/HarddiskVolumeShadowCopy3\n"
        "         Originating Machine: systemOne\n"
        "         Service Machine: systemTwo\n"
        "         Provider: 'Array Provider'\n"
        "         Type: ApplicationRollback\n"
        "         Attributes: Persistent, No auto release, Transportable, Hardware assisted,"
        " Differential, Imported\n"
        "\n"
    )


async def test_all_shadow_copies_are_asked_for_whatever_their_context(
    host: ScriptedService, vssadmin: Vssadmin
) -> None:
    await vssadmin("list", "shadows")
    assert host.asked("set_context") == [{"context": 0xFFFFFFFF}]


async def test_an_empty_list_says_so_and_is_no_failure(
    host: ScriptedService, vssadmin: Vssadmin
) -> None:
    assert await vssadmin("list", "shadows") == (0, "No items found that satisfy the query.\n")


async def test_a_copy_of_an_unregistered_provider_shows_the_providers_id(
    host: ScriptedService, vssadmin: Vssadmin, answers: dict[str, Any]
) -> None:
    answers["query"], answers["query_providers"] = [shadow(1, "F")], []
    _, output = await vssadmin("list", "shadows")
    assert f"Provider: '{{{PROVIDER}}}'\n" in output


async def test_the_json_of_shadow_copies_has_what_scripts_were_promised(
    host: ScriptedService, as_json: AsJson, answers: dict[str, Any]
) -> None:
    answers["query"] = [shadow(1, "F", attributes=0x90029)]
    assert await as_json("list", "shadows") == [
        {
            "id": "00000000-0000-0000-0000-000000000001",
            "set_id": str(SET),
            "snapshots_count": 2,
            "device_object": "/run/vssemu/GLOBALROOT/Device/HarddiskVolumeShadowCopy1",
            "raw_device": "/run/vssemu/GLOBALROOT/RawDevice/HarddiskVolumeShadowCopy1",
            "original_volume": F,
            "originating_machine": "systemOne",
            "service_machine": "systemTwo",
            "exposed_name": None,
            "exposed_path": None,
            "provider_id": str(PROVIDER),
            "attributes": [
                "PERSISTENT",
                "NO_AUTO_RELEASE",
                "TRANSPORTABLE",
                "HARDWARE_ASSISTED",
                "IMPORTED",
            ],
            "context": "APP_ROLLBACK",
            "state": "CREATED",
            "created": "2022-05-31T13:45:05Z",
            "luns": [naa(1)],
        }
    ]


async def test_json_of_nothing_is_an_empty_list(host: ScriptedService, as_json: AsJson) -> None:
    assert await as_json("list", "shadows") == []
    assert await as_json("list", "writers") == []


async def test_a_copy_with_bits_that_name_no_context_does_not_spoil_the_list(
    host: ScriptedService, vssadmin: Vssadmin, as_json: AsJson, answers: dict[str, Any]
) -> None:
    answers["query"] = [shadow(1, "F", attributes=0x4), shadow(2, "G", attributes=0)]
    status, output = await vssadmin("list", "shadows")
    assert status == 0
    assert "Type: Unknown\n" in output
    assert "Type: Backup\n" in output
    assert [one["context"] for one in await as_json("list", "shadows")] == [
        "0x00000004",
        "BACKUP",
    ]


async def test_a_copy_that_went_away_meanwhile_has_no_luns(
    host: ScriptedService, as_json: AsJson, answers: dict[str, Any]
) -> None:
    answers["query"] = [shadow(1, "F")]
    answers["get_snapshot_luns"] = ObjectNotFound("gone")
    assert [one["luns"] for one in await as_json("list", "shadows")] == [[]]


@pytest.mark.parametrize(
    "options",
    [
        ["/for=G:"],
        ["-FOR=g:\\"],
        ["/for=/mnt/G"],
        [f"/for={G}"],
        [f"/for={G.rstrip(chr(92))}"],
        ["/shadow={00000000-0000-0000-0000-000000000002}"],
        ["/Shadow=00000000-0000-0000-0000-000000000002"],
        [f"-set={{{OTHER_SET}}}"],
        ["/for=G:", f"/SET={OTHER_SET}"],
    ],
    ids=" ".join,
)
async def test_the_list_can_be_narrowed(
    options: list[str], host: ScriptedService, as_json: AsJson, answers: dict[str, Any]
) -> None:
    answers["query"] = [shadow(1, "F"), shadow(2, "G", set_id=OTHER_SET)]
    assert [one["id"][-1] for one in await as_json(*options, "list", "shadows")] == ["2"]


async def test_the_original_volume_may_be_one_of_another_host(
    host: ScriptedService, as_json: AsJson, answers: dict[str, Any]
) -> None:
    answers["query"] = [shadow(1, "Q")]
    name = volume_guid_name(UUID(int=ord("Q")))
    assert len(await as_json("list", "shadows", f"/for={name}")) == 1


async def test_a_letter_that_is_not_here_is_a_failure(
    host: ScriptedService, vssadmin: Vssadmin
) -> None:
    status, output = await vssadmin("list", "shadows", "/for=Q:")
    assert status == 2
    assert output == "Error: VSS_E_OBJECT_NOT_FOUND (0x80042308): volume Q: is not on this host\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "shadows", "/for=nothing"],
        ["list", "shadows", "/for="],
        ["list", "shadows", "/for"],
        ["list", "shadows", "/shadow=12"],
        ["list", "shadows", "/set"],
        ["list", "shadows", f"/set={SET}", f"/shadow={SET}"],
        ["list", "shadows", "/oldest"],
        ["list", "shadows", "/"],
        ["list", "writers", "/for=F:"],
    ],
    ids=" ".join,
)
async def test_a_wrong_option_gives_an_error_line_and_the_commands_usage(
    arguments: list[str], host: ScriptedService, vssadmin: Vssadmin
) -> None:
    status, output = await vssadmin(*arguments)
    assert status == 2
    assert output.startswith("Error: ")
    assert f"\nList {arguments[1].capitalize()}" in output
    assert host.asked("query") == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["list"],
        ["list", "shadowstorage"],
        ["list", "shadows", "F:"],
        ["create", "shadow", "/for=F:"],
        ["delete", "shadows", "/all", "/quiet"],
        ["resize", "shadowstorage", "/for=F:", "/on=F:"],
        ["revert", "shadow", f"/shadow={SET}"],
        ["add", "shadowstorage", "/for=F:", "/on=F:"],
        ["query", "reverts"],
        ["/for=F:", "/for=G:"],
    ],
    ids=" ".join,
)
async def test_what_is_no_command_gives_the_list_of_commands_and_does_nothing(
    arguments: list[str], host: ScriptedService, vssadmin: Vssadmin
) -> None:
    status, output = await vssadmin(*arguments)
    assert status == 2
    assert "---- Commands Supported ----" in output
    titles = [line.split("  - ")[0].strip() for line in output.splitlines() if "  - " in line]
    assert titles == ["List Providers", "List Shadows", "List Volumes", "List Writers"]
    assert host.calls == []


async def test_help_is_no_failure(vssadmin: Vssadmin, nowhere: None) -> None:
    status, output = await vssadmin("/?")
    assert status == 0
    assert "List Shadows" in output
    status, output = await vssadmin("list", "shadows", "/?")
    assert status == 0
    assert "/Shadow=ShadowId | /Set=ShadowSetId" in output


async def test_writers_are_listed_with_state_and_last_error(
    host: ScriptedService, vssadmin: Vssadmin, answers: dict[str, Any]
) -> None:
    answers["writer_status"] = [
        writer("SQLite Writer", WriterState.STABLE),
        writer("Slow Writer", WriterState.FAILED_AT_FREEZE, Hresult.VSS_E_WRITERERROR_TIMEOUT),
        writer("Odd Writer", WriterState.WAITING_FOR_BACKUP_COMPLETE, Hresult.E_FAIL),
    ]
    status, output = await vssadmin("List", "WRITERS")
    assert status == 0
    assert output.split("\n\n")[0] == (
        "Writer name: 'SQLite Writer'\n"
        "   Writer Id: {00000000-0000-0000-0000-000000000001}\n"
        "   Writer Instance Id: {00000000-0000-0000-0000-000000000002}\n"
        "   State: [1] Stable\n"
        "   Last error: No error"
    )
    assert "   State: [9] Failed\n   Last error: Timed out\n" in output
    assert "   State: [5] Waiting for completion\n" in output
    assert "   Last error: Unexpected error (E_FAIL (0x80004005))\n" in output


async def test_writers_that_answer_late_are_waited_for_with_a_word(
    host: ScriptedService, vssadmin: Vssadmin, as_json: AsJson, answers: dict[str, Any]
) -> None:
    pending = OperationStatus(hresult=int(Hresult.VSS_S_ASYNC_PENDING))
    statuses = iter([pending, FINISHED, FINISHED, pending, FINISHED, FINISHED])
    answers["wait"] = lambda operation, timeout_ms: next(statuses)
    answers["writer_status"] = [writer("Late Writer", WriterState.STABLE)]
    _, output = await vssadmin("list", "writers")
    assert output.startswith(
        "Waiting for responses.\n"
        "These may be delayed if a shadow copy is being prepared.\n"
        "\n"
        "Writer name: 'Late Writer'\n"
    )
    (late,) = await as_json("list", "writers")
    assert late["state"], late["failure"] == ("STABLE", "S_OK")


async def test_providers_are_listed(
    host: ScriptedService, vssadmin: Vssadmin, as_json: AsJson
) -> None:
    status, output = await vssadmin("list", "providers")
    assert (status, output) == (
        0,
        "Provider name: 'Array Provider'\n"
        "   Provider type: Hardware\n"
        f"   Provider Id: {{{PROVIDER}}}\n"
        "   Version: 1.2.3\n"
        "\n",
    )
    (one,) = await as_json("list", "providers")
    assert (one["id"], one["type"], one["version"]) == (str(PROVIDER), "hardware", "1.2.3")


async def test_only_volumes_that_can_be_copied_are_listed(
    host: ScriptedService, vssadmin: Vssadmin, as_json: AsJson, answers: dict[str, Any]
) -> None:
    answers["list_volumes"] = [volume("F"), volume("G"), volume("H", flags=GptFlags.HIDDEN)]
    answers["is_volume_supported"] = lambda volume, provider: volume == F
    status, output = await vssadmin("list", "volumes")
    assert (status, output) == (0, f"Volume path: F:\\\n    Volume name: {F}\n\n")
    assert [each["volume"] for each in host.asked("is_volume_supported")] == [F, G]
    assert [one["name"] for one in await as_json("list", "volumes")] == [F]


async def test_a_failure_of_the_service_is_one_line_and_two(
    host: ScriptedService, vssadmin: Vssadmin, answers: dict[str, Any]
) -> None:
    answers["is_volume_supported"] = UnexpectedProviderError("the provider died")
    status, output = await vssadmin("list", "volumes")
    assert status == 2
    assert output == "Error: VSS_E_UNEXPECTED_PROVIDER_ERROR (0x8004230f): the provider died\n"


async def test_with_json_a_failure_is_on_stderr_alone(
    host: ScriptedService, vssemu: Run, answers: dict[str, Any]
) -> None:
    answers["open"] = AccessDenied("user 1000 may not use the VSS service")
    result = await vssemu("vssadmin", "list", "shadows", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: E_ACCESSDENIED (0x80070005): user 1000")


async def test_outside_a_host_it_says_so_and_ends_with_two(
    nowhere: None, vssadmin: Vssadmin
) -> None:
    status, output = await vssadmin("list", "writers")
    assert status == 2
    assert "run this inside a host: vssemu lab exec HOST" in output
