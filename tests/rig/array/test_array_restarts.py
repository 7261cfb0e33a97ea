"""arrayd ended at any moment and started again."""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from tests.rig.array.arrayrig import (
    MIB,
    ONE,
    TWO,
    ArrayProcess,
    Host,
    Site,
    connected,
    loops_over,
    running,
    until,
)
from vssemu.api import array as api
from vssemu.api.errors import decode_error
from vssemu.linux import cgroup, loop
from vssemu.rpc.client_trio import connect
from vssemu.rpc.errors import RpcError
from vssemu.vss.array import LunKind
from vssemu.vss.errors import ObjectNotFound, VssError
from vssemu.vss.identity import LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation

DIFFERENTIAL = LunKind.DIFFERENTIAL
KILL_SECONDS = 10.0


async def test_everything_is_there_again_after_a_kill(process: ArrayProcess) -> None:
    async with connected(process) as site:
        lun = await site.lun(ONE)
        await site.one.write(lun.id, b"kept")
        _, (record,) = await site.one.copy(lun.id)
        await site.two.call(api.surface, [record])
        before = await site.call(api.inventory)
    process.restart()
    async with connected(process) as site:
        assert await site.call(api.inventory) == before
        assert await site.one.luns() == [lun.id]
        assert await site.one.read(lun.id, 4) == b"kept"
        assert record.naa is not None
        assert await site.two.read(record.naa, 4) == b"kept"


async def test_bound_luns_keep_one_pool_and_go_on_through_a_kill(process: ArrayProcess) -> None:
    async with connected(process) as site:
        lun = await site.lun(ONE)
        async with site.one.bound(lun.id) as number:
            (pool_device,) = loops_over(process.image)
            process.kill()
            with loop.node(number).open("r+b", buffering=0) as device:
                device.write(b"without arrayd".ljust(4096))
                os.fsync(device.fileno())
            process.start()
            assert loops_over(process.image) == [pool_device]
            async with connected(process) as again:
                assert await again.one.read(lun.id, 14) == b"without arrayd"
                assert await again.two.call(api.reserve_device) != number
                # It is its host's still: no drain, no refusal.
                os.close(await again.one.open(lun.id))
                assert loop.sysfs_facts(number) is not None


async def test_a_killed_arrayd_leaves_nothing_bound(process: ArrayProcess) -> None:
    assert loops_over(process.image)
    process.kill()
    process.close_shards()
    await until(lambda: not loops_over(process.image))


async def test_prepared_sets_are_gone_and_committed_ones_stay_after_a_kill(
    process: ArrayProcess,
) -> None:
    kept, lost = SnapshotSetId(uuid4()), SnapshotSetId(uuid4())
    async with connected(process) as site:
        one, two = await site.lun(ONE), await site.lun(TWO)
        await site.one.write(one.id, b"committed")
        await site.one.call(api.prepare, kept, [one.id], DIFFERENTIAL)
        await site.one.call(api.finish_prepare, kept)
        (record,) = await site.one.call(api.commit, kept)
        await site.two.call(api.prepare, lost, [two.id], DIFFERENTIAL)
        await site.two.call(api.finish_prepare, lost)
    process.restart()
    async with connected(process) as site:
        assert sorted((await site.states()).values()) == ["committed", "ready", "ready"]
        with pytest.raises(ObjectNotFound):
            await site.two.call(api.commit, lost)
        # The host may have missed the answer, and asks again.
        assert await site.one.call(api.commit, kept) == [record]
        assert await site.one.call(api.copies_of, kept, [one.id]) == [record]
        await site.two.call(api.surface, [record])
        assert record.naa is not None
        assert await site.two.read(record.naa, 9) == b"committed"
        assert process.lun_directories() == set(await site.states())


async def test_a_committed_set_without_its_bytes_keeps_no_array_from_starting(
    process: ArrayProcess,
) -> None:
    broken = SnapshotSetId(uuid4())
    async with connected(process) as site:
        lun = await site.lun(ONE)
        await site.one.write(lun.id, b"kept")
        await site.one.call(api.prepare, broken, [lun.id], DIFFERENTIAL)
        await site.one.call(api.finish_prepare, broken)
        (record,) = await site.one.call(api.commit, broken)
        assert record.naa is not None
        process.bytes_of(record.naa).unlink()
    process.restart_all()
    async with connected(process) as site:
        assert await site.states() == {lun.id: "ready"}
        assert await site.one.read(lun.id, 4) == b"kept"


async def test_a_claim_whose_answer_was_lost_may_be_repeated_once_by_its_host(
    process: ArrayProcess,
) -> None:
    async with connected(process) as site:
        _, records = await site.one.copy((await site.lun(ONE)).id)
        await site.two.call(api.surface, records)
    process.restart()
    async with connected(process) as site:
        with pytest.raises(VssError, match="claimed"):
            await site.one.call(api.surface, records)
        await site.two.call(api.surface, records)
        with pytest.raises(VssError, match="claimed"):
            await site.two.call(api.surface, records)


async def test_directories_that_the_journal_does_not_know_are_removed(
    process: ArrayProcess,
) -> None:
    async with connected(process) as site:
        lun = await site.lun()
    stray = Path(f"/proc/{process.pid}/root{process.pool}/root/luns/naa.6{'0' * 31}")
    await trio.to_thread.run_sync(stray.mkdir)
    process.restart()
    assert process.lun_directories() == {lun.id}


async def test_an_orderly_end_removes_sockets(process: ArrayProcess) -> None:
    async with connected(process):
        pass
    process.stop()
    assert not list(process.run.rglob("*.sock"))


async def test_a_pool_of_another_array_is_refused(process: ArrayProcess) -> None:
    async with connected(process) as site:
        await site.lun()
        directories = process.lun_directories()
    process.stop()
    state = process.directory / "state"
    state.rename(process.directory / "other")
    argv = [sys.executable, "-m", "vssemu.daemons.arrayd", "--state", str(state)]
    argv += ["--run", str(process.run), "--pool", str(process.pool)]
    refused = await trio.run_process(argv, check=False, capture_stderr=True)
    assert refused.returncode == 1
    assert b"belongs to the array" in refused.stderr
    for file in state.iterdir():
        file.unlink()
    state.rmdir()
    (process.directory / "other").rename(state)
    process.start()
    assert process.lun_directories() == directories


class Storm:
    """A mix of operations by two hosts, and what must be true whatever interrupts them."""

    def __init__(self, process: ArrayProcess) -> None:
        self.process = process
        self.random = random.Random(20)
        self.bases: dict[LunId, bytes] = {}
        self.gone: set[LunId] = set()
        self.copies: list[tuple[LunInformation, bytes]] = []
        self.done = 0

    async def run_until_killed(self) -> None:
        """Work until the connection breaks."""
        try:
            async with connected(self.process) as site, trio.open_nursery() as nursery:
                nursery.start_soon(self._work, site, site.one)
                nursery.start_soon(self._work, site, site.two)
                nursery.start_soon(self._admin)
        except* (RpcError, OSError):
            pass

    async def _admin(self) -> None:
        path = self.process.run / "array.sock"
        async with await connect(path, decode_error=decode_error) as admin:
            while True:
                lun = await admin.call(api.create_lun, 4 * MIB)
                await admin.call(api.extend_lun, lun.id, 8 * MIB)
                self.gone.add(lun.id)
                await admin.call(api.delete_lun, lun.id)
                self.done += 1

    async def _work(self, site: Site, host: Host) -> None:
        lun = (await site.lun(host.name, size=4 * MIB)).id
        while True:
            marker = uuid4().bytes * 256
            await host.write(lun, marker)
            self.bases[lun] = marker
            _, (record,) = await host.copy(lun)
            if self.random.random() < 0.5:
                self.copies.append((record, marker))
            else:
                assert record.naa is not None
                self.gone.add(record.naa)
                await host.call(api.surface, [record])
                await host.call(api.reclaim, record)
            self.done += 1

    async def check(self) -> None:
        """Look at what a restart has made of it."""
        async with connected(self.process) as site:
            listed = {lun.id: lun for lun in await site.call(api.inventory)}
        assert self.process.lun_directories() == set(listed)
        states = {lun.state.value for lun in listed.values()}
        assert states <= {"ready", "committed", "claimed"}
        assert set(self.bases) <= set(listed)
        assert {record.naa for record, _ in self.copies} <= set(listed)
        self._check_journal()

    def _check_journal(self) -> None:
        journal = self.process.directory / "state" / "journal.sqlite"
        connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert connection.execute("SELECT * FROM operations").fetchall() == []
        finally:
            connection.close()


async def test_kills_at_any_moment_leave_nothing_half_done(process: ArrayProcess) -> None:
    storm = Storm(process)
    kills = 0
    end = trio.current_time() + KILL_SECONDS
    while kills < 5 or storm.done < 20 or trio.current_time() < end:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storm.run_until_killed)
            await trio.sleep(storm.random.uniform(0.05, 0.6))
            process.kill()
        process.start()
        kills += 1
        await storm.check()
    async with connected(process) as site:
        for record, marker in storm.copies:
            await site.three.call(api.surface, [record])
            assert record.naa is not None
            assert await site.three.read(record.naa, len(marker)) == marker
        listed = set(await site.states())
    # What was asked to go may be there if the kill came before the request.
    assert len(storm.gone & listed) <= 3 * kills


@pytest.fixture
def fence() -> Iterator[Path]:
    """A control group with one below it for the first host."""
    tree = cgroup.find_cgroup2()
    if tree is None:
        pytest.skip("no control groups of version 2 here")
    root = tree / f"vssemu-array-{uuid4().hex[:8]}"
    cgroup.create(root / ONE / "inside")
    yield root
    cgroup.remove(root)


async def test_a_fenced_host_opens_the_devices_it_was_given_and_no_other(
    directory: Path, fence: Path
) -> None:
    process = ArrayProcess(directory, pool_size=1024 * MIB, fence=fence)
    inside = fence / ONE / "inside"
    async with running(process), connected(process) as site:
        lun = await site.lun(ONE)
        foreign = await site.lun(TWO)
        async with site.one.bound(lun.id) as own, site.two.bound(foreign.id) as other:
            assert await _can_open(inside, f"/dev/loop{own}")
            assert not await _can_open(inside, f"/dev/loop{other}")
            assert await _can_open(inside, "/dev/null")
            assert not await _can_open(inside, "/dev/kmsg")
            process.restart()
            assert await _can_open(inside, f"/dev/loop{own}")
            assert not await _can_open(inside, f"/dev/loop{other}")
        # A device that is free again is nobody's.
        for number in (own, other):
            await until(partial(_is_free, number))
        with trio.fail_after(10):
            while await _can_open(inside, f"/dev/loop{own}"):  # noqa: ASYNC110
                await trio.sleep(0.05)


def _is_free(number: int) -> bool:
    return loop.sysfs_facts(number) is None


async def _can_open(group: Path, device: str) -> bool:
    script = f'echo 0 > "{group}/cgroup.procs" && exec head -c 0 "{device}"'
    result = await trio.run_process(["sh", "-c", script], check=False, stderr=subprocess.DEVNULL)
    return result.returncode == 0


def test_a_wrong_command_line_ends_with_2() -> None:
    argv = [sys.executable, "-m", "vssemu.daemons.arrayd", "--nonsense"]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 2
