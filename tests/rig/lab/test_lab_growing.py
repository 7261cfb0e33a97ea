"""Hosts, LUNs and volumes that come to a running lab and leave it; a machine that restarts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from tests.rig.lab.labrig import (
    ONE,
    PERSISTENT,
    THREE,
    TWO,
    Rig,
    create,
    digest,
    fill,
    import_set,
    left_of,
    sigkill_everything,
)
from vssemu.lab import cleanup
from vssemu.lab.config import ENGINES, VolumeSpec
from vssemu.lab.growth import Growth
from vssemu.linux import cgroup
from vssemu.tools.main import main
from vssemu.vss.enums import ObjectType
from vssemu.vss.errors import InvalidArgument


def done(*argv: str) -> str:
    """Run a command that must succeed; return what it printed."""
    ended = CliRunner().invoke(main, argv)
    assert ended.exit_code == 0, f"{argv}: {ended.output}"
    return ended.stdout


def refused(*argv: str) -> str:
    """Run a command that must fail, with one line; return the line."""
    ended = CliRunner().invoke(main, argv)
    assert ended.exit_code == 1, f"{argv}: {ended.output}"
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def restart_machine(rig: Rig) -> None:
    """Take from a lab what a restart of the machine takes, and nothing else."""
    names = [*rig.lab.known.backing_names(), str(rig.pool / "pool.img")]
    sigkill_everything(rig)
    cleanup.end_processes(rig.group, names)
    cleanup.release_loops(names)
    assert not rig.group.exists()
    shutil.rmtree(rig.lab.paths.run)
    rig.lab.paths.boot.write_text(str(uuid4()))


def test_a_host_and_a_volume_come_import_and_go(own_lab: Callable[..., Rig]) -> None:
    rig = own_lab("F:=64M")
    name = ("--name", rig.name)
    fill(rig.path(ONE, "/mnt/F/data"), files=8)
    frozen = digest(rig.path(ONE, "/mnt/F/data"))
    with rig.backup(ONE) as creator:
        made = create(creator, context=PERSISTENT)
        document = creator.save_as_xml()

        assert done("lab", "add", "host", THREE, *name) == f"lab {rig.name} has got host {THREE}\n"
        assert done("lab", "add", "volume", f"G:=32M@{THREE}", *name).endswith("has got G:\n")
        rig.assert_writable(THREE, "G")
        with rig.backup(THREE) as importer:
            import_set(importer, document)
            (found,) = importer.query()
            assert digest(rig.path(THREE, found.device_object) / "data") == frozen

        assert "shadow copies" in refused("lab", "remove", "host", THREE, *name)
        stands = refused("lab", "remove", "volume", "F:", *name)
        assert "VSS_E_VOLUME_IN_USE" in stands
        assert "1 shadow copies" in stands
        rig.assert_writable(ONE)
        with rig.backup(THREE) as administrator:
            administrator.initialize_for_backup()
            administrator.set_context(0xFFFFFFFF)
            administrator.delete_snapshots(made.copy, ObjectType.SNAPSHOT, False)

    assert "remove its volumes" in refused("lab", "remove", "host", THREE, *name)
    done("lab", "remove", "volume", "g", "--host", THREE, *name)
    assert rig.volumes(THREE) == []
    done("lab", "remove", "host", THREE, *name)
    assert [host.name for host in rig.lab.status().hosts] == [ONE, TWO]
    assert not (rig.group / THREE).exists()
    assert not rig.lab.paths.host_state(THREE).exists()
    assert not rig.lab.paths.host_outside(THREE).exists()
    assert len(rig.lun_ids()) == 1
    # The same names serve again.
    done("lab", "add", "host", THREE, *name)
    assert rig.run(THREE, "hostname") == f"{THREE}\n"


def test_up_again_adds_what_is_missing_and_refuses_what_differs(
    own_lab: Callable[..., Rig], scratch: Path
) -> None:
    rig = own_lab("F:=32M", hosts=(ONE,))
    name = ("--name", rig.name)
    before = rig.pids(None, "vssemu.daemons.arrayd"), rig.pids(ONE, "vssemu.daemons.vssd")
    file = scratch / "lab.toml"
    file.write_text(
        f"""
        name = "{rig.name}"
        engine = "{rig.engine}"
        hosts = ["{ONE}", "{TWO}"]
        volumes = [
            {{ letter = "f:", size = "32M" }},
            {{ letter = "G", size = 33554432, host = "{TWO}" }},
            {{ letter = "H", size = "20M", lun = "both" }},
            {{ letter = "I", size = "20M", lun = "both" }},
        ]
        """
    )
    said = done("lab", "up", str(file))
    assert said.endswith(f"has got host {TWO}, volume G: of {TWO}, volume H: of {ONE}, "
                         f"volume I: of {ONE}\n")  # fmt: skip
    assert done("lab", "up", str(file)) == f"lab {rig.name} was up already\n"
    assert done("lab", "up", *name) == f"lab {rig.name} was up already\n"
    assert not rig.lab.up(), "what is recorded is what it has"
    rig.assert_writable(TWO, "G")
    rig.assert_writable(ONE, "I")
    assert len(rig.lun_ids()) == 3
    assert before == (
        rig.pids(None, "vssemu.daemons.arrayd"),
        rig.pids(ONE, "vssemu.daemons.vssd"),
    ), "nothing was restarted"

    file.write_text(file.read_text().replace("33554432", "67108864"))
    assert f"G: of {TWO} is 32 MiB of ext4, not 64 MiB of ext4" in refused("lab", "up", str(file))
    (other_engine,) = ENGINES.keys() - {rig.engine}
    for options, fact in (
        (("--hosts", ONE), f"G: no host '{TWO}'"),
        (("--hosts", ONE, "--volume", "F:=32M"), f"it has host {TWO}"),
        (("--volume", "F:=32M"), f"it has G: of {TWO}"),
        (("--pool", str(scratch / "pool")), "pool is its own, not"),
        (("--engine", other_engine), f"engine is {rig.engine}, not {other_engine}"),
    ):
        assert fact in refused("lab", "up", *name, *options)
    assert "shares the LUN" in refused("lab", "remove", "volume", "H:", *name)
    done("lab", "remove", "volume", "H:", "I:", *name)
    assert len(rig.lun_ids()) == 2


def test_what_cannot_all_be_added_is_not_added_at_all_and_a_kept_pool_loses_nothing(
    own_lab: Callable[..., Rig],
) -> None:
    rig = own_lab("F:=32M", f"G:=32M@{TWO}", pool=True)
    rig.path(TWO, "/mnt/G/kept").write_text("still here")
    luns = rig.lun_ids()
    rig.down()
    rig.up("F:=32M", hosts=(ONE,))
    kept = VolumeSpec(letter="G", size=32 << 20, host=TWO)
    new = VolumeSpec(letter="H", size=32 << 20)
    too_large = VolumeSpec(letter="I", size=65 << 40, host=TWO)
    with pytest.raises(InvalidArgument, match="a LUN cannot have"):
        rig.lab.add(Growth(hosts=(TWO,), volumes=(kept, new, too_large)))
    assert [host.volumes for host in rig.lab.status().hosts] == [("F:\\",)]
    assert rig.lun_ids() == luns, "the new one is gone, the kept one is not"
    assert not (rig.group / TWO).exists()
    assert "already" in refused("lab", "add", "volume", "F:=32M", "--name", rig.name)
    assert "already" in refused("lab", "add", "host", ONE, "--name", rig.name)

    done("lab", "add", "host", TWO, "--name", rig.name)
    done("lab", "add", "volume", f"G:=32M@{TWO}", "--name", rig.name)
    assert rig.path(TWO, "/mnt/G/kept").read_text() == "still here"
    assert rig.lun_ids() == luns


def test_a_lun_is_added_by_the_bare_steps(lab: Rig) -> None:
    name = ("--name", lab.name)
    lun = done("array", "lun", "create", "32M", *name).strip()
    done("array", "lun", "unmask", lun, TWO, *name)
    lab.run(TWO, "vssemu", "vds", "rescan")
    lab.run(TWO, "vssemu", "vds", "create-volume", lun, "--letter", "Q:")
    lab.assert_writable(TWO, "Q")
    lab.run(TWO, "vssemu", "vds", "mask", lun)
    done("array", "lun", "delete", lun, *name)


def test_the_third_host_imports(lab: Rig) -> None:
    with lab.backup(ONE) as creator, lab.backup(THREE) as importer:
        create(creator)
        import_set(importer, creator.save_as_xml())
        (found,) = importer.query()
        tree = lab.path(THREE, found.device_object) / "data"
        assert digest(tree) == digest(lab.path(ONE, "/mnt/F/data"))


def test_a_lab_comes_back_after_a_restart_of_the_machine(own_lab: Callable[..., Rig]) -> None:
    rig = own_lab("F:=64M")
    name = ("--name", rig.name)
    done("lab", "add", "volume", f"G:=32M@{TWO}", *name)
    fill(rig.path(ONE, "/mnt/F/data"), files=8)
    frozen = digest(rig.path(ONE, "/mnt/F/data"))
    documents, copies = [], []
    for _ in range(2):
        with rig.backup(ONE) as creator:
            copies.append(create(creator, context=PERSISTENT).copy)
            documents.append(creator.save_as_xml())
        with rig.backup(TWO) as importer:
            import_set(importer, documents[-1])
    with rig.backup(TWO) as administrator:
        administrator.initialize_for_backup()
        administrator.set_context(0xFFFFFFFF)
        administrator.delete_snapshots(copies[0], ObjectType.SNAPSHOT, False)
        (before,) = administrator.query()
    assert before.device_object.endswith("Copy2")
    luns = rig.lun_ids()
    with rig.vss(ONE) as vss:
        create(vss.backup_components(), context=0)
        assert len(rig.lun_ids()) == len(luns) + 1
        restart_machine(rig)

    assert left_of(rig.name, sorted(luns)) == [f"directory {rig.lab.paths.state}"]
    status = json.loads(done("lab", "status", "--json", *name))
    assert (status["running"], status["state"]) == (False, "down since the machine restarted")
    listed = json.loads(done("lab", "list", "--json"))
    (mine,) = [each for each in listed if each["name"] == rig.name]
    assert mine["state"] == "down since the machine restarted"
    assert mine["volumes"] == [f"F:@{ONE}", f"G:@{TWO}"]

    assert done("lab", "up", *name) == f"lab {rig.name} is up: {ONE}, {TWO}\n"
    rig.assert_writable(ONE, "F")
    rig.assert_writable(TWO, "G")
    assert digest(rig.path(ONE, "/mnt/F/data")) == frozen
    with rig.backup(TWO) as administrator:
        administrator.initialize_for_backup()
        administrator.set_context(0xFFFFFFFF)
        (after,) = administrator.query()
    assert (after.snapshot_id, after.device_object) == (copies[1], before.device_object)
    assert digest(rig.path(TWO, after.device_object) / "data") == frozen
    with rig.backup(ONE) as administrator:
        administrator.initialize_for_backup()
        administrator.set_context(0xFFFFFFFF)
        assert administrator.query() == []
    assert rig.lun_ids() == luns, "the nonpersistent copy is gone, and nothing else"


def test_the_memory_of_every_process_is_told(lab: Rig) -> None:
    status = json.loads(done("lab", "status", "--json", "--name", lab.name))
    names = {(each["host"], each["name"]) for each in status["processes"]}
    assert {(None, "arrayd"), (None, "holdguard"), (THREE, "vssd"), (ONE, "devicefs")} <= names
    assert {each["pid"] for each in status["processes"]} <= set(cgroup.pids(lab.group))
    for each in status["processes"]:
        assert 1 << 20 < each["pss"] <= each["rss"] < 1 << 30, each
