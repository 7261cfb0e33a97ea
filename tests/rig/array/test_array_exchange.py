"""Snapshots that leave the array as exception stores of dm-snapshot, and such that come in."""

import hashlib
import json
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import CliRunner, Result

from tests.rig.array.arrayrig import MIB, ONE, TWO, ArrayProcess, Site, connected, running, until
from tests.rig.array.exchangerig import (
    SIZE,
    brought_in,
    digest_of,
    family,
    opened,
    seen_through,
    written_out,
)
from tests.unit.stores.kernelstores import digests, image
from vssemu.api import array as api
from vssemu.api import shard as shard_api
from vssemu.lab import paths
from vssemu.tools.exchanging import ImportFacts
from vssemu.tools.main import main
from vssemu.vss.array import LunKind, LunState
from vssemu.vss.engine import CopyPair
from vssemu.vss.errors import (
    BadState,
    InsufficientStorage,
    InvalidArgument,
    NotSupportedHere,
    VolumeInUse,
    VssError,
)
from vssemu.vss.identity import LunId


@pytest.fixture
def engine() -> str:
    return "cow"


@pytest.fixture
def pair(directory: Path) -> tuple[Path, Path]:
    """The origin and the store that a kernel left."""
    origin, store = directory / "origin", directory / "store"
    origin.write_bytes(image("c8-origin"))
    store.write_bytes(image("c8-cow"))
    return origin, store


@pytest.fixture
def vssemu(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Result]]:
    """Run `vssemu array lun …` against the array, as the lab that its directory looks like."""
    monkeypatch.setattr(paths, "RUN", site.process.run.parent)

    async def run(*words: str | Path) -> Result:
        line = ["array", "lun", *map(str, words), "--name", site.process.run.name]
        return await trio.to_thread.run_sync(CliRunner().invoke, main, line)

    return run


async def test_pair_of_a_kernel_becomes_two_luns_and_goes_out_again(
    site: Site,
    pair: tuple[Path, Path],
    directory: Path,
    vssemu: Callable[..., Awaitable[Result]],
) -> None:
    """By the commands."""
    printed = await vssemu("import-cow", "--origin", pair[0], "--store", pair[1], "--json")
    assert printed.exit_code == 0, printed.output
    assert set(json.loads(printed.stdout)) == {"origin", "snapshot", "view_sha256"}
    found = msgspec.json.decode(printed.stdout, type=ImportFacts)
    assert found.view_sha256 == digests("c8")["SNAPSHOT view"]
    luns = {lun.id: lun for lun in await site.call(api.inventory)}
    origin, snapshot = luns[LunId(found.origin)], luns[LunId(found.snapshot)]
    assert (origin.kind, origin.state, origin.size) == (LunKind.BASE, LunState.READY, 64 * MIB)
    assert (snapshot.kind, snapshot.state) == (LunKind.DIFFERENTIAL, LunState.INDEPENDENT)
    assert (snapshot.origin, snapshot.size) == (origin.id, 64 * MIB)

    await site.call(api.unmask_lun, snapshot.id, TWO)
    await site.call(api.unmask_lun, origin.id, ONE)
    assert await digest_of(site, snapshot.id, 64 * MIB) == found.view_sha256
    before = await site.one.read(origin.id, 64 * MIB)
    assert hashlib.sha256(before).hexdigest() == digests("c8")["ORIGIN"]

    out = directory / "origin.out", directory / "store.out"
    words = "export-cow", snapshot.id, "--store", out[1], "--origin", out[0], "--progress"
    printed = await vssemu(*words, "--json")
    assert json.loads(printed.stdout) == {
        "snapshot": snapshot.id,
        "store": str(out[1]),
        "origin": str(out[0]),
        "chunk_size": 4096,
        "chunks": 9,
    }
    assert re.search(r" (64\.\d)/\1 MiB", printed.stderr)
    assert out[0].read_bytes() == pair[0].read_bytes()
    digest, written = seen_through(*out)
    assert digest == found.view_sha256
    assert written.old.tolist() == [0, 5, 100, 101, 102, 200, 300, 301, 16383]

    there = sorted(os.listdir(directory))
    for failing, text in (
        (words, f"VSS_E_OBJECT_ALREADY_EXISTS (0x8004230d): {out[1]} is there already ["),
        (("export-cow", origin.id, "--store", directory / "none"), f"LUN {origin.id} is no snap"),
        (("export-cow", origin.id, "--store", directory / "no/no"), "no/no: No such file or dir"),
    ):
        printed = await vssemu(*failing)
        assert printed.exit_code == 1
        assert text in printed.stderr
        assert printed.stderr.count("\n") == 1
    assert sorted(os.listdir(directory)) == there

    # The array goes on in the store: what is written now is kept first.
    await site.one.write(origin.id, os.urandom(700 * 4096), 96 * 4096)
    await trio.to_thread.run_sync(site.process.restart)
    async with connected(site.process) as again:
        assert await digest_of(again, snapshot.id, 64 * MIB) == found.view_sha256
        for lun, host in ((snapshot.id, TWO), (origin.id, ONE)):
            await again.call(api.mask_lun, lun, host)
        with pytest.raises(BadState, match="is the parent of"):
            await again.call(api.delete_lun, origin.id)
        await again.call(api.delete_lun, snapshot.id)
        await again.call(api.delete_lun, origin.id)
        assert await again.call(api.inventory) == []
    assert site.process.lun_directories() == set()


async def test_each_of_a_family_stands_alone(site: Site, directory: Path) -> None:
    """While the origin is written; a store that takes part of its chunks from younger ones too."""
    lun, copies = await family(site)
    await site.two.write(copies[0], os.urandom(4096), 8192)
    digests_before = [await digest_of(site, copy) for copy in copies]

    async def write_on(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            await site.one.write(lun, os.urandom(16384), random.randrange(SIZE // 16384) * 16384)

    async with trio.open_nursery() as nursery:
        await nursery.start(write_on)
        for number, copy in enumerate(copies):
            origin, store = directory / f"origin{number}", directory / f"store{number}"
            result = await written_out(site, copy, store, origin)
            digest, found = seen_through(origin, store)
            assert digest == digests_before[number]
            assert len(found) == result.chunks
        nursery.cancel_scope.cancel()
    assert [await digest_of(site, copy) for copy in copies] == digests_before
    assert all(name.count(".") == 1 for name in site.process.lun_directories())


async def test_export_wants_a_snapshot_and_an_origin_that_rests(
    site: Site, directory: Path
) -> None:
    lun, copies = await family(site)
    store = directory / "store"
    async with site.one.bound(lun) as number:
        with pytest.raises(VolumeInUse, match=f"is in use, .*loop{number}") as refused:
            await written_out(site, copies[1], store)
        assert "--origin FILE" in str(refused.value)
    assert store.read_bytes() == b""
    await written_out(site, copies[1], store)
    origin = directory / "origin"
    origin.write_bytes(await site.one.read(lun, SIZE))
    digest, found = seen_through(origin, store)
    assert digest == await digest_of(site, copies[1])
    assert found.old.tolist() == sorted(found.old.tolist())

    with pytest.raises(InvalidArgument, match=f"LUN {lun} is no snapshot: it is base"):
        await written_out(site, lun, directory / "none")
    with pytest.raises(VssError, match="/dev/full: Invalid argument"):
        await written_out(site, copies[0], Path("/dev/full"))
    assert all(name.count(".") == 1 for name in site.process.lun_directories())


@pytest.fixture
def large(directory: Path) -> tuple[Path, Path]:
    """A pair that takes a minute to import: an origin with much to hash and nothing in it."""
    origin, store = directory / "origin", directory / "store"
    with origin.open("wb") as file:
        file.truncate(64 << 30)
    store.write_bytes(image("c8-cow"))
    return origin, store


async def test_half_an_import_leaves_nothing(site: Site, large: tuple[Path, Path]) -> None:
    """Neither when the caller leaves nor when the array dies."""
    for ends in (lambda: None, site.process.restart):
        with opened(large[0]) as origin, opened(large[1]) as store:
            client = await site.process.admin()
            async with client, client.stream(api.import_cow, origin, store) as stream:
                async for element in stream:
                    if element.done:
                        break
                assert len(site.process.lun_directories()) == 2
                await trio.to_thread.run_sync(ends)
        await until(lambda: not site.process.lun_directories())
        async with await site.process.admin() as again:
            assert await again.call(api.inventory) == []


async def test_snapshot_that_an_export_left_goes_with_the_next_start(site: Site) -> None:
    lun = (await site.lun(ONE)).id
    _, (record,) = await site.one.copy(lun)
    shards = site.process.shards
    assert shards is not None
    left = LunId(f"{record.naa}.export")
    number = next(
        number for number in range(2) if lun in shards.call(number, shard_api.facts, lun).chain
    )
    shards.call(number, shard_api.prepare, [CopyPair(source=lun, target=left)])
    shards.call(number, shard_api.commit, [CopyPair(source=lun, target=left)])
    assert left in site.process.lun_directories()
    await trio.to_thread.run_sync(site.process.restart)
    assert left not in site.process.lun_directories()
    assert left not in shards.call(number, shard_api.facts, lun).chain


NO_PAIRS = [
    ("c8over-origin", "c8over-cow", "was invalidated: its snapshot is lost"),
    ("c8-cow", "c8-cow", "a chunk that an origin of 16777216 bytes lacks"),
    ("c8-origin", "c8-origin", "is no exception store that can be used: its magic number"),
    (None, "c8-cow", "has 1000 bytes, which no LUN can have"),
]


async def test_what_is_no_pair_or_finds_no_room_is_refused(site: Site, directory: Path) -> None:
    first, second = directory / "first", directory / "second"
    for origin, store, text in NO_PAIRS:
        first.write_bytes(bytes(1000) if origin is None else image(origin))
        second.write_bytes(image(store))
        with pytest.raises(InvalidArgument, match=text):
            await brought_in(site, first, second)
    pipe = directory / "pipe"
    os.mkfifo(pipe)
    for one, other in ((pipe, second), (second, pipe)):
        with pytest.raises(VssError, match="pipe: Illegal seek"):
            await brought_in(site, one, other)
    with first.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 960 * MIB)
    with pytest.raises(InsufficientStorage, match="bytes free, a copy wants"):
        await brought_in(site, first, second)
    assert await site.call(api.inventory) == []
    assert site.process.lun_directories() == set()


@pytest.fixture
async def other(directory: Path, pool_size: int) -> AsyncIterator[Site]:
    process = ArrayProcess(directory, pool_size=pool_size, engine="reflink")
    async with running(process), connected(process) as made:
        yield made


async def test_another_engine_refuses_in_words(
    other: Site, pair: tuple[Path, Path], directory: Path
) -> None:
    text = "the engine reflink keeps no exception stores"
    with pytest.raises(NotSupportedHere, match=text) as refused:
        await brought_in(other, *pair)
    assert "--engine cow" in str(refused.value)
    with pytest.raises(NotSupportedHere, match=text):
        await written_out(other, (await other.lun()).id, directory / "out")
