"""Walkers, readers, changing lists and kills all at once: nobody hangs, nothing is wrong."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter

from tests.rig.fuse.rig import PATIENCE, Daemon, RawDevice, Rig

SECONDS = 6.0
WALKER = """
import errno, json, os, random, sys
root, last = sys.argv[1], int(sys.argv[2])
allowed = {"ENOENT", "ESTALE", "ENOTCONN", "ECONNABORTED", "EIO"}
seen = {}
os.set_blocking(0, False)
print("ready", flush=True)
while sys.stdin.read(1) != "q":
    name = f"HarddiskVolumeShadowCopy{random.randint(1, last)}"
    try:
        what = random.choice(["tree", "stat", "image", "list", "properties"])
        if what == "tree":
            with open(f"{root}/Device/{name}/hello.txt") as file:
                assert file.read() == "hello\\n"
        elif what == "stat":
            os.stat(f"{root}/Device/{name}")
        elif what == "image":
            with open(f"{root}/Image/{name}", "rb", buffering=0) as file:
                assert os.pread(file.fileno(), 2, 1024 + 56) == b"\\x53\\xef"
        elif what == "list":
            os.listdir(f"{root}/{random.choice(['Device', 'Image'])}")
        else:
            with open(f"{root}/Properties/{name}") as file:
                json.load(file)
        outcome = "ok"
    except OSError as error:
        what, outcome = what, errno.errorcode[error.errno]
        assert outcome in allowed, (what, outcome)
    seen[outcome] = seen.get(outcome, 0) + 1
print(json.dumps(seen))
"""


def start_walkers(rig: Rig, count: int, last: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WALKER, str(rig.mountpoint), str(last)]
    walkers = [rig.start(*command) for _ in range(count)]
    for each in walkers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    return walkers


def check_walkers(walkers: list[subprocess.Popen[str]]) -> None:
    seen: Counter[str] = Counter()
    for each in walkers:
        out, complaints = each.communicate("q", timeout=PATIENCE)
        assert (each.returncode, complaints) == (0, "")
        seen.update(json.loads(out))
    print("walkers saw", dict(seen))
    assert seen["ok"]


def test_lists_change_under_walkers(rig: Rig, raw: RawDevice) -> None:
    devices = [raw, rig.raw_device("b"), rig.raw_device("c")]
    daemon = rig.daemon()
    daemon.publish()
    walkers = start_walkers(rig, 8, 3)
    end = time.monotonic() + SECONDS
    rounds = 0
    while time.monotonic() < end:
        chosen = [each for each in enumerate(devices, 1) if random.random() < 0.7]
        daemon.publish(*(device.facts(number) for number, device in chosen))
        rounds += 1
    check_walkers(walkers)
    daemon.publish()
    assert not rig.mounts("ext4")
    assert "Traceback" not in daemon.log
    print(f"{rounds} lists")


def test_devicefs_is_killed_under_walkers(rig: Rig, raw: RawDevice, daemon: Daemon) -> None:
    walkers = start_walkers(rig, 8, 1)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        daemon.kill()
        daemon = rig.daemon()
        daemon.publish(raw.facts(1))
    check_walkers(walkers)
    assert len(rig.mounts("fuse")) == 1
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"
    assert os.listdir(rig.mountpoint / "Device") == ["HarddiskVolumeShadowCopy1"]


def test_devicefs_is_killed_while_lists_change(rig: Rig, raw: RawDevice) -> None:
    devices = [raw, rig.raw_device("b")]
    walkers = start_walkers(rig, 8, 2)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        daemon = rig.daemon()
        daemon.publish(*(each.facts(number) for number, each in enumerate(devices, 1)))
        for _ in range(random.randrange(20)):
            chosen = [each for each in enumerate(devices, 1) if random.random() < 0.5]
            daemon.publish(*(device.facts(number) for number, device in chosen))
        daemon.tell(list=[], revision=daemon.revision + 1)
        daemon.kill()
    check_walkers(walkers)
    rig.daemon().publish()
    assert not rig.mounts("ext4")
