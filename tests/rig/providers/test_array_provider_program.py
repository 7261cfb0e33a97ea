"""The array's provider as a program, with the real array, as the VSS service drives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from tests.rig.array.arrayrig import ONE, TWO, Site
from tests.rig.providers.conftest import COMMAND, started
from vssemu.api import provider as api
from vssemu.linux import processes
from vssemu.rpc.listening import listen_unix
from vssemu.service.runner import ProviderAnswer, Runner, spawn
from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import LunStateChange
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import SnapshotId, SnapshotSetId
from vssemu.vss.lun import Lun, LunInformation, is_same_lun

TRANSPORTABLE = int(Attribute.TRANSPORTABLE)


def lun_of(record: LunInformation, device: str = "") -> Lun:
    return Lun(device_name=device, information=record)


async def create(program: Runner, *luns: Lun) -> tuple[SnapshotSetId, list[LunInformation], float]:
    """Make a set; return it, the copies' records and the seconds that Commit took."""
    set_id = SnapshotSetId(uuid4())
    async with await program.connection() as client:
        supported = await client.call(api.are_luns_supported, TRANSPORTABLE, list(luns))
        assert supported.supported
        snapshot_id = SnapshotId(uuid4())
        begin = api.begin_prepare_snapshot
        await client.call(begin, set_id, snapshot_id, TRANSPORTABLE, list(luns))
        await client.call(api.end_prepare_snapshots, set_id)
        await client.call(api.pre_commit_snapshots, set_id)
        before = time.perf_counter()
        await client.call(api.commit_snapshots, set_id)
        seconds = time.perf_counter() - before
        await client.call(api.post_commit_snapshots, set_id, 1)
        targets = await client.call(api.get_target_luns, list(luns))
        await client.call(api.pre_final_commit_snapshots, set_id)
        await client.call(api.post_final_commit_snapshots, set_id)
    return set_id, targets, seconds


async def test_a_copy_made_on_one_host_is_located_filled_in_and_reclaimed_on_another(
    site: Site, one: Runner, two: Runner
) -> None:
    base = await site.lun(ONE)
    await site.one.write(base.id, b"then", 1 << 20)
    _, (record,), seconds = await create(one, lun_of(base.information, "/dev/loop1"))
    print(f"CommitSnapshots took {seconds * 1000:.1f} ms")
    assert seconds < 1
    await site.one.write(base.id, b"late", 1 << 20)
    assert record.naa is not None
    assert await site.two.luns() == []
    async with await two.connection() as client:
        await client.call(api.locate_luns, [record])
        assert await site.two.luns() == [record.naa]
        assert await site.two.read(record.naa, 4, 1 << 20) == b"then"
        filled = await client.call(api.fill_in_lun_info, lun_of(record, "/dev/loop9"))
        assert filled.supported
        assert is_same_lun(filled.luns[0].information, record)
        with pytest.raises(ProviderAnswer) as caught:
            await client.call(api.locate_luns, [record])
        assert caught.value.hresult == Hresult.VSS_E_BAD_STATE
        await client.call(api.on_lun_empty, filled.luns[0])
        await client.call(api.on_lun_empty, filled.luns[0])
    assert await site.two.luns() == []
    assert await site.one.luns() == [base.id]


async def test_masking_takes_the_copy_away_and_keeps_it(
    site: Site, one: Runner, two: Runner
) -> None:
    base = await site.lun(ONE)
    _, (record,), _ = await create(one, lun_of(base.information))
    async with await two.connection() as client:
        await client.call(api.locate_luns, [record])
        await client.call(
            api.on_lun_state_change, [record], [base.information], LunStateChange.DO_MASK_LUNS
        )
        assert await site.two.luns() == []
        filled = await client.call(api.fill_in_lun_info, lun_of(record))
        assert filled.supported, "a masked copy is still the array's"
        await client.call(api.on_lun_empty, filled.luns[0])


async def test_a_lun_of_another_host_is_not_supported(site: Site, one: Runner) -> None:
    theirs = await site.lun(TWO)
    async with await one.connection() as client:
        answer = await client.call(api.are_luns_supported, 0, [lun_of(theirs.information)])
    assert not answer.supported


async def test_a_base_lun_is_never_reclaimed(site: Site, one: Runner) -> None:
    base = await site.lun(ONE)
    async with await one.connection() as client:
        with pytest.raises(ProviderAnswer) as caught:
            await client.call(api.on_lun_empty, lun_of(base.information))
    assert caught.value.hresult == Hresult.VSS_E_PROVIDER_VETO
    assert await site.one.luns() == [base.id]


async def test_a_provider_killed_after_post_commit_answers_after_its_restart(
    site: Site, directory: Path
) -> None:
    base = await site.lun(ONE)
    lun = lun_of(base.information)
    set_id = SnapshotSetId(uuid4())
    async with started(site, directory, ONE) as program, await program.connection() as client:
        await client.call(api.begin_prepare_snapshot, set_id, SnapshotId(uuid4()), 0, [lun])
        await client.call(api.end_prepare_snapshots, set_id)
        await client.call(api.pre_commit_snapshots, set_id)
        await client.call(api.commit_snapshots, set_id)
        await client.call(api.post_commit_snapshots, set_id, 1)
    async with started(site, directory, ONE) as program, await program.connection() as client:
        (record,) = await client.call(api.get_target_luns, [lun])
        await client.call(api.post_final_commit_snapshots, set_id)
        await client.call(api.on_lun_empty, lun_of(record))


async def test_sigterm_drops_the_unfinished_set_and_ends_the_program(
    site: Site, directory: Path
) -> None:
    base = await site.lun(ONE)
    async with started(site, directory, ONE) as program, await program.connection() as client:
        set_id = SnapshotSetId(uuid4())
        begin = api.begin_prepare_snapshot
        await client.call(begin, set_id, SnapshotId(uuid4()), 0, [lun_of(base.information)])
        await client.call(api.end_prepare_snapshots, set_id)
        os.kill(program.pid, signal.SIGTERM)
        with trio.fail_after(10):
            await program.ended.wait()
    assert site.process.lun_directories() == {base.id}


_FORGETFUL = """
import sys
from pathlib import Path
from vssemu.service.runner import spawn
program = spawn(sys.argv[2:], Path(sys.argv[1]), {}, "array")
print(f'pid={program.pid}', flush=True)
sys.stdin.read()
"""


def test_a_program_ends_when_its_service_is_killed(directory: Path) -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", _FORGETFUL, directory / "p.sock", *COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert service.stdout is not None
    said = next(line for line in service.stdout if line.startswith(b"pid="))
    program = processes.identity_of(int(said.removeprefix(b"pid=")))
    service.kill()
    service.wait()
    assert processes.wait_gone([program], time.monotonic() + 10) == ()
    service.stdout.close()


def test_a_program_without_a_socket_or_with_a_class_that_is_none_is_refused(
    directory: Path,
) -> None:
    bare = subprocess.run(COMMAND, check=False, capture_output=True, text=True)
    assert bare.returncode == 2
    assert "0 sockets were passed" in bare.stderr
    with listen_unix(directory / "s") as sock:
        program = spawn((*COMMAND[:-1], "json:JSONDecoder"), directory / "p", {}, "none")
        del sock
    processes.wait_gone([processes.identity_of(program.pid)], time.monotonic() + 10)
