"""A real kernel activates stores that we wrote, and goes on writing in them; we read those."""

import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.soak.stores.guest import Kernel, boot
from tests.soak.stores.guests import ACTIVATE, WRITES, digest_of_file
from vssemu.stores.format import SECTOR, chunks_used, exceptions_per_area
from vssemu.stores.reading import read_store
from vssemu.stores.viewing import view_digest
from vssemu.stores.writing import write_store

SIZE = 32 << 20
ROOM = 32 << 20
"""Bytes that the kernel may have the store grow to."""


@pytest.mark.parametrize(
    ("chunk_size", "count"),
    [(4096, 0), (4096, 600), (4096, 512), (65536, 300), (1 << 20, 20)],
    ids=["empty", "many areas", "full areas", "64k", "1m"],
)
def test_kernel_shows_our_view_and_goes_on(
    debian: Kernel, tmp_path: Path, chunk_size: int, count: int
) -> None:
    dice = random.Random(chunk_size + count)
    origin, store = tmp_path / "origin", tmp_path / "store"
    origin.write_bytes(dice.randbytes(SIZE))
    chunks = dice.sample(range(SIZE // chunk_size), count)
    made(store, chunk_size, [(chunk, dice.randbytes(chunk_size)) for chunk in chunks])
    script = ACTIVATE.format(sectors=SIZE // SECTOR, chunk=chunk_size // SECTOR)
    ours = view_of(origin, store)

    said = boot(
        debian,
        tmp_path,
        f"{script} say before $(digest /dev/mapper/snap)\n{WRITES}"
        'say view $(digest /dev/mapper/snap)\nsay status "$(dmsetup status snap)"',
        origin,
        store,
    )

    assert said["before"] == ours
    assert said["view"] == view_of(origin, store) != ours
    used = re.search(r"snapshot (\d+)/", said["status"])
    assert used is not None
    with store.open("rb") as file:
        found = read_store(file.fileno(), str(store), origin_size=SIZE)
    per = exceptions_per_area(chunk_size)
    assert chunks_used(len(found), per) == int(used[1]) * SECTOR // chunk_size
    assert found.next_chunk == chunks_used(len(found), per)


def test_kernel_merges_our_view_into_the_origin(debian: Kernel, tmp_path: Path) -> None:
    """Merging walks the table from its end, and clears it: the origin is the view then."""
    dice = random.Random(1)
    origin, store = tmp_path / "origin", tmp_path / "store"
    origin.write_bytes(dice.randbytes(SIZE))
    chunks = dice.sample(range(SIZE // 4096), 700)
    made(store, 4096, [(chunk, dice.randbytes(4096)) for chunk in chunks])
    ours = view_of(origin, store)
    script = f"""
        dm create org --table "0 {SIZE // SECTOR} snapshot-merge /dev/vda /dev/vdb P 8"
        for each in $(seq 200); do
            case "$(dmsetup status org)" in *" 16/"*" 16") break;; esac
            sleep 0.1
        done
        say status "$(dmsetup status org)"
    """
    said = boot(debian, tmp_path, script, origin, store)
    assert re.search(r"snapshot-merge 16/\d+ 16$", said["status"])
    assert digest_of_file(origin) == ours
    with store.open("rb") as file:
        assert len(read_store(file.fileno(), str(store))) == 0


def made(path: Path, chunk_size: int, chunks: Sequence[tuple[int, bytes]]) -> None:
    with path.open("w+b") as file:
        assert write_store(file.fileno(), chunk_size, chunks) == len(chunks)
        file.truncate(max(os.fstat(file.fileno()).st_size, ROOM))


def view_of(origin: Path, store: Path) -> str:
    with origin.open("rb") as image, store.open("rb") as file:
        found = read_store(file.fileno(), str(store), origin_size=origin.stat().st_size)
        assert found.valid
        return view_digest(image.fileno(), origin.stat().st_size, file.fileno(), found)
