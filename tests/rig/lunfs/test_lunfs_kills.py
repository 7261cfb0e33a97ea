"""lunfs killed under loop devices and mounted file systems: nobody notices."""

import os
import signal
import subprocess
import time

import pytest

from tests.rig.lunfs.lunfsrig import LunfsRig, run
from vssemu.linux import fuse

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
                    "fio", "--name=load", f"--directory={place}", "--size=24M", "--bs=4k-64k",
                    "--rw=randrw", "--ioengine=libaio", "--iodepth=16", "--direct=1",
                    "--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1",
                    "--fsync=64", "--time_based", "--runtime=600", "--end_fsync=1",
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
            assert "err= 0" in words, words
        run("e2fsck", "-f", "-n", device.path)
    assert plain.facts()["starts"] == KILLS + 1
