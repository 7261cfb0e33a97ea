"""`vssemu vds` and `vssemu provider` against a service on a real socket."""

import json
from typing import Any
from uuid import UUID

import pytest

from tests.unit.tools.conftest import PROVIDER, SET, Run, naa
from tests.unit.tools.scripted import ScriptedService
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import BadState, ProviderAlreadyRegistered
from vssemu.vss.identity import volume_guid_name

F = volume_guid_name(UUID(int=ord("F")))
LUN = naa(ord("F"))


async def test_list_json_names_disks_and_volumes_and_no_serial(
    host: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("vds", "list", "--json")
    found = json.loads(result.stdout)
    assert found["disks"][0] == {
        "id": LUN,
        "device": "/dev/F",
        "size": 64 << 20,
        "status": "online",
        "disk_guid": "00000000-0000-0000-0000-000000000005",
        "volumes": [F],
    }
    assert found["volumes"][0] == {
        "name": F,
        "guid": str(UUID(int=ord("F"))),
        "letters": ["F:\\"],
        "mount_points": ["/mnt/F"],
        "filesystem": "ext4",
        "label": "data",
        "size": 64 << 20,
        "flags": [],
        "luns": [LUN],
    }
    assert "secret" not in result.stdout


@pytest.mark.parametrize(("what", "columns"), [("disks", "DISK "), ("volumes", "VOLUME ")])
async def test_half_of_the_list_can_be_asked_for(
    what: str, columns: str, host: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("vds", "list", what)
    assert result.stdout.startswith(columns)
    assert len(result.stdout.splitlines()) == 3
    whole = json.loads((await vssemu("vds", "list", "--json")).stdout)
    half = json.loads((await vssemu("vds", "list", what, "--json")).stdout)
    assert half == whole[what]


async def test_create_volume_prints_the_volume(
    host: ScriptedService, vssemu: Run, answers: dict[str, Any]
) -> None:
    answers["create_volume"] = F
    options = ("--filesystem", "xfs", "--letter", "x", "--label", "logs")
    result = await vssemu("vds", "create-volume", LUN.removeprefix("naa."), *options)
    assert (result.exit_code, result.stdout) == (0, F + "\n")
    assert host.asked("create_volume") == [
        {
            "lun": LUN,
            "filesystem": "xfs",
            "label": "logs",
            "path": "X:\\",
            "size": None,
            "whole": False,
        }
    ]
    result = await vssemu("vds", "create-volume", LUN, "--json")
    assert json.loads(result.stdout) == {"lun": LUN, "volume": F}
    assert host.asked("create_volume")[1]["filesystem"] == "ext4"
    await vssemu("vds", "create-volume", LUN, "--size", "512M")
    assert host.asked("create_volume")[2]["size"] == 512 << 20
    await vssemu("vds", "create-volume", LUN, "--whole")
    assert host.asked("create_volume")[3]["whole"]
    result = await vssemu("vds", "create-volume", LUN, "--size", "large")
    assert result.exit_code == 2
    assert "large" in result.stderr


@pytest.mark.parametrize("name", ["F:", "f", "/mnt/F", F, str(UUID(int=ord("F")))])
async def test_a_volume_may_be_named_in_any_way(
    name: str, host: ScriptedService, vssemu: Run
) -> None:
    assert (await vssemu("vds", "readwrite", name)).exit_code == 0
    (asked,) = host.asked("make_read_write")
    assert asked["volume"] in {"F:\\", "/mnt/F/", F}


async def test_a_letter_is_given_and_taken(
    host: ScriptedService, vssemu: Run, answers: dict[str, Any]
) -> None:
    answers["add_access_path"] = "/mnt/X"
    result = await vssemu("vds", "letter", "F:", "x:")
    assert (result.exit_code, result.stdout) == (0, "/mnt/X\n")
    assert host.asked("add_access_path") == [{"volume": "F:\\", "path": "X:\\"}]
    result = await vssemu("vds", "letter", "--remove", "x:")
    assert (result.exit_code, result.stdout) == (0, "")
    assert host.asked("remove_access_path") == [{"path": "X:\\"}]


@pytest.mark.parametrize(
    "arguments",
    [[], ["F:"], ["F:", "X:", "--remove", "Y:"], ["F:", "--remove", "Y:"]],
    ids=" ".join,
)
async def test_half_a_letter_command_is_refused(
    arguments: list[str], host: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("vds", "letter", *arguments)
    assert result.exit_code == 2
    assert "--remove and a letter" in result.stderr
    assert host.calls == []


async def test_mask_unmask_and_clean_up_pass_on_what_they_are_given(
    host: ScriptedService, vssemu: Run, answers: dict[str, Any]
) -> None:
    answers["clean_up"] = [LUN]
    assert (await vssemu("vds", "rescan")).exit_code == 0
    assert (await vssemu("vds", "mask", LUN.upper())).exit_code == 0
    assert (await vssemu("vds", "unmask", LUN, "systemTwo")).exit_code == 0
    assert (await vssemu("vds", "clean-up", f"{{{SET}}}")).stdout == LUN + "\n"
    assert host.calls == [
        ("rescan", {}),
        ("mask", {"lun": LUN}),
        ("unmask", {"lun": LUN, "initiator": "systemTwo"}),
        ("clean_up", {"snapshot_set_id": SET}),
    ]


async def test_a_refusal_is_one_line_with_its_remedy(
    host: ScriptedService, vssemu: Run, answers: dict[str, Any]
) -> None:
    answers["make_read_write"] = BadState("F belongs to a shadow copy", hint="break its set")
    result = await vssemu("vds", "readwrite", "F:")
    assert (result.exit_code, result.stdout) == (1, "")
    line = "VSS_E_BAD_STATE (0x80042301): F belongs to a shadow copy [break its set]\n"
    assert result.stderr == line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["readwrite", "nothing"], "'nothing' names no volume"),
        (["letter", "F:", "there"], "neither a drive letter nor"),
        (["mask", "F:"], "not naa. and 32 hex digits"),
        (["clean-up", "12"], "'12' is no GUID"),
        (["list", "letters"], "'letters' is not one of"),
    ],
)
async def test_a_wrong_name_is_refused_before_anything_is_asked(
    arguments: list[str], complaint: str, host: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("vds", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert host.calls == []


async def test_a_provider_is_registered_with_the_command_after_the_dashes(
    host: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu(
        *("provider", "register", "--id", f"{{{PROVIDER}}}", "--name", "Mine"),
        *("--version", "2.0", "--set", "pool=a=b", "--set", "size=1"),
        *("--", "prog", "--name", "x"),
    )
    assert result.exit_code == 0, result.stderr
    (asked,) = host.asked("register_provider")
    version_id = asked.pop("version_id")
    assert asked == {
        "provider_id": PROVIDER,
        "class_id": PROVIDER,
        "name": "Mine",
        "type": ProviderType.HARDWARE,
        "version": "2.0",
        "command": ["prog", "--name", "x"],
        "config": {"pool": "a=b", "size": "1"},
    }
    assert isinstance(version_id, UUID)


@pytest.mark.parametrize("missing", ["--id", "--name", "--version", "prog"])
async def test_a_provider_is_not_registered_by_halves(
    missing: str, host: ScriptedService, vssemu: Run
) -> None:
    given = {"--id": str(PROVIDER), "--name": "Mine", "--version": "2.0", "prog": None}
    arguments = [word for key, value in given.items() if key != missing for word in (key, value)]
    result = await vssemu("provider", "register", *[word for word in arguments if word])
    assert result.exit_code == 2
    assert host.calls == []


async def test_a_setting_without_a_value_is_refused(host: ScriptedService, vssemu: Run) -> None:
    options = ("--id", str(PROVIDER), "--name", "n", "--version", "1")
    result = await vssemu("provider", "register", *options, "--set", "pool", "prog")
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr


async def test_the_services_refusal_of_a_provider_comes_out(
    host: ScriptedService, vssemu: Run, answers: dict[str, Any]
) -> None:
    answers["register_provider"] = ProviderAlreadyRegistered("it is registered")
    options = ("--id", str(PROVIDER), "--name", "n", "--version", "1")
    result = await vssemu("provider", "register", *options, "prog")
    assert result.exit_code == 1
    assert result.stderr.startswith("VSS_E_PROVIDER_ALREADY_REGISTERED (0x80042303): ")


async def test_providers_are_listed_and_unregistered(host: ScriptedService, vssemu: Run) -> None:
    (one,) = json.loads((await vssemu("provider", "list", "--json")).stdout)
    assert one["id"] == str(PROVIDER)
    assert one["name"] == "Array Provider"
    assert "Array Provider" in (await vssemu("provider", "list")).stdout
    await vssemu("provider", "unregister", f"{{{PROVIDER}}}")
    assert host.asked("unregister_provider") == [{"provider_id": PROVIDER}]
