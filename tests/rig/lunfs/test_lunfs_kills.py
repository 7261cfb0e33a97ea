"""lunfs killed under loop devices and mounted file systems: nobody notices."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.rig.lunfs.lunfsrig import MIB, LunfsRig, run, running, wait_until
from vssemu.api import shard as api
from vssemu.linux import fuse
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId

KILLS = int(os.environ.get("VSSEMU_KILLS", "20"))

pytestmark = pytest.mark.skipif(
    not fuse.kernel_resends(), reason="this kernel does not send requests again (6.9 does)"
)


def test_no_write_fails_during_twenty_kills(plain: LunfsRig) -> None:
    with plain.loop("first") as device:
        run("mkfs.ext4", "-q", "-b", "4096", device.path)
        with plain.mounted(device) as place:
            load = subprocess.Popen(
                [
                    "fio", "--name=load", f"--directory={place}", "--size=24M", "--bsrange=4k-64k",
                    "--rw=randrw", "--ioengine=libaio", "--iodepth=16", "--direct=1",
                    "--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1",
                    "--verify_state_save=0", "--fsync=64", "--end_fsync=1",
                    "--time_based", "--runtime=600",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )  # fmt: skip
            try:
                for _ in range(KILLS):
                    plain.restart()
                    time.sleep(0.05)
                    if load.poll() is not None:
                        break
            finally:
                load.send_signal(signal.SIGINT)
                with plain.guarded(30):
                    words = load.communicate()[0]
            # 128: it was told to end, and had no error before.
            assert load.returncode in {0, 128}, words
            assert "error=" not in words, words
        run("e2fsck", "-f", "-n", device.path)
    assert plain.facts()["starts"] == KILLS + 1


def test_a_file_system_is_unmounted_while_lunfs_is_dead(plain: LunfsRig) -> None:
    with plain.loop("first") as device:
        run("mkfs.ext4", "-q", "-b", "4096", device.path)
        with plain.mounted(device) as place:
            (place / "file").write_text("written before")
            with plain.dead():
                unmounting = subprocess.Popen(["umount", str(place)])
                # It has to write, so it waits.
                with pytest.raises(subprocess.TimeoutExpired):
                    unmounting.wait(0.3)
            with plain.guarded():
                assert unmounting.wait(10) == 0
            run("mount", device.path, place)
            assert (place / "file").read_text() == "written before"
        run("e2fsck", "-f", "-n", device.path)


def test_whoever_uses_a_lunfs_that_ended_for_good_gets_errors(plain: LunfsRig) -> None:
    with plain.loop("first") as device:
        run("mkfs.ext4", "-q", "-b", "4096", device.path)
        with plain.mounted(device) as place:
            with plain.dead():
                reader = subprocess.Popen(
                    ["dd", f"if={device.path}", "of=/dev/null", "bs=4k", "count=1", "skip=9000"],
                    stderr=subprocess.DEVNULL,
                )
                plain.kill_for_good()
                with plain.guarded():
                    assert reader.wait(10) != 0
            written = run("dd", "if=/dev/zero", f"of={place}/file", "conv=fsync", check=False)
            assert "error" in written
    assert plain.facts()["kept"] == []


def test_files_of_the_mount_may_be_closed_while_lunfs_is_dead(plain: LunfsRig) -> None:
    """A process that inherited one closes it when it ends; nobody may wait for that."""
    held = [plain.open("first") for _ in range(3)]
    with plain.guarded():
        os.pwrite(held[0], bytes(4096), 0)
    with plain.dead():
        child = os.fork()
        if child == 0:
            os._exit(0)
        wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child, "the child ended", 3)
        closing = threading.Thread(target=lambda: list(map(os.close, held)))
        closing.start()
        closing.join(3)
        assert not closing.is_alive()


def test_a_kill_before_anything_was_answered(plain: LunfsRig) -> None:
    """Killed as early as can be, again and again, it is the same mount at the end."""
    with plain.guarded():
        before = os.fstat(plain.mount()).st_dev
    with plain.loop("first") as device:
        for _ in range(3):
            plain.kill()
            wait_until(plain.pid, "the shard is started again")
        plain.wait_ready()
        with plain.guarded():
            os.pwrite(device.fd, b"after", 0)
            os.fsync(device.fd)
        plain.forget_mount()
        with plain.guarded():
            assert os.fstat(plain.mount()).st_dev == before


def test_a_connection_that_was_ended_is_replaced(plain: LunfsRig) -> None:
    """What was open fails, and the next lunfs has a mount that works."""
    held = plain.open("first")
    starts = plain.facts()["starts"]
    plain.abort()
    with pytest.raises(OSError, match=r"not connected|aborted"):
        os.pread(held, 4096, 0)
    os.close(held)
    wait_until(lambda: plain.facts()["starts"] > starts, "lunfs is started again")
    plain.wait_ready()
    plain.forget_mount()
    again = plain.open("first")
    with plain.guarded():
        assert os.pread(again, 4096, 0) == bytes(4096)
    os.close(again)


def test_a_shard_comes_back_with_its_pool_although_nobody_calls_it(directory: Path) -> None:
    luns = directory / "luns"
    luns.mkdir()
    lun, snapshot = LunId(f"naa.6{'0' * 31}"), LunId(f"naa.6{'1' * 31}")
    pairs = [CopyPair(source=lun, target=snapshot)]
    with running(directory) as rig:
        rig.serve(luns)
        rig.call(0, api.create, lun, 64 * MIB)
        with rig.loop(lun) as device:
            with rig.guarded():
                os.pwrite(device.fd, b"old", 0)
                os.fsync(device.fd)
            rig.call(0, api.prepare, pairs)
            rig.call(0, api.commit, pairs)
            rig.restart()
            with rig.guarded():
                os.pwrite(device.fd, b"new", 0)
                os.fsync(device.fd)
            rig.restart()
            seen = rig.open(snapshot, flags=os.O_RDONLY)
            with rig.guarded():
                assert os.pread(seen, 3, 0) == b"old"
                assert os.pread(device.fd, 3, 0) == b"new"
            os.close(seen)
            # Told to end while a device is bound: it ends in order, and its users get errors.
            rig.stop()
            assert rig.facts()["last_status"] == 0
            with rig.guarded(), pytest.raises(OSError, match="Input/output error"):
                os.pread(device.fd, 4096, 32 * MIB)


def test_writes_go_on_when_a_hold_ends_and_nothing_else_happens(directory: Path) -> None:
    """The end of a hold comes from trio's side, while the loop sleeps."""
    luns = directory / "luns"
    luns.mkdir()
    lun = LunId(f"naa.6{'0' * 31}")
    with running(directory) as rig:
        rig.serve(luns)
        rig.call(0, api.create, lun, 64 * MIB)
        fd = rig.open(lun)
        with rig.client() as client, rig.guarded():
            for _ in range(5):
                client.call(api.hold, [lun], 20.0)
                writing = threading.Thread(target=os.pwrite, args=[fd, bytes(4096), 0])
                writing.start()
                writing.join(0.05)
                assert writing.is_alive()
                assert client.call(api.release, [lun])
                writing.join(3)
                assert not writing.is_alive()
        os.close(fd)
