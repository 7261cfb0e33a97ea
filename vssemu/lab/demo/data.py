r"""The data that the demo protects, and the programs that make and change it on systemOne.

`python -m vssemu.lab.demo.data fill ROOT MANIFEST [DIRECTORIES]` makes, below ROOT:

    documents/dNNN/fNNNN.txt    the files of the files writer's one component
    orders/orders.db            the SQLite writer's database, in WAL mode
    scratch/NNN.tmp             files that belong to no component

and writes the SHA-256 of every document to MANIFEST (JSON, by path below ROOT).
`... load DATABASE PROGRESS` commits orders until SIGTERM and keeps the number of the last
committed one in PROGRESS. `... change ROOT` alters, deletes and adds documents.
"""

import hashlib
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path
from random import Random
from types import FrameType

DIRECTORIES = 250
FILES_PER_DIRECTORY = 80
SCRATCH_FILES = 200
ORDERS_AT_FIRST = 2_000
_SEED = 20
_PAUSE_SECONDS = 0.002


def fill(root: Path, manifest: Path, directories: int = DIRECTORIES) -> None:
    """Make the data below `root`, an empty volume, and the manifest."""
    random = Random(_SEED)
    digests: dict[str, str] = {}
    block = random.randbytes(1 << 16)
    for directory in range(directories):
        place = root / "documents" / f"d{directory:03}"
        place.mkdir(parents=True)
        for number in range(FILES_PER_DIRECTORY):
            start = random.randrange(1 << 15)
            length = min(int(random.expovariate(1 / 4000)) + 1, 1 << 15)
            data = b"%d/%d\n" % (directory, number) + block[start : start + length]
            path = place / f"f{number:04}.txt"
            path.write_bytes(data)
            digests[str(path.relative_to(root))] = hashlib.sha256(data).hexdigest()
    scratch = root / "scratch"
    scratch.mkdir()
    for number in range(SCRATCH_FILES):
        (scratch / f"{number:03}.tmp").write_bytes(block[:4096])
    make_database(root / "orders" / "orders.db")
    manifest.write_text(json.dumps(digests))
    os.sync()


def make_database(path: Path) -> None:
    """Make the database of orders, with its first ones."""
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, what TEXT NOT NULL)")
        database.executemany(
            "INSERT INTO orders VALUES (?, ?)",
            ((number, f"order {number}") for number in range(1, ORDERS_AT_FIRST + 1)),
        )
    database.close()


def load(path: Path, progress: Path) -> None:
    """Commit one order after the other until SIGTERM."""
    going = True

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    database = sqlite3.connect(path, timeout=60, isolation_level=None)
    (number,) = database.execute("SELECT max(number) FROM orders").fetchone()
    with progress.open("r+b" if progress.exists() else "w+b", buffering=0) as record:
        while going:
            number += 1
            database.execute("INSERT INTO orders VALUES (?, ?)", (number, f"order {number}"))
            os.pwrite(record.fileno(), b"%12d" % number, 0)
            signal.sigtimedwait([], _PAUSE_SECONDS)
    database.close()


def change(root: Path) -> None:
    """Alter, delete and add documents, as users do while a backup runs."""
    for place in sorted((root / "documents").iterdir())[::10]:
        files = sorted(place.iterdir())
        files[0].write_text("changed after the shadow copy\n")
        files[1].unlink()
        (place / "new.txt").write_text("made after the shadow copy\n")
    os.sync()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill", root, manifest, *directories]:
            fill(Path(root), Path(manifest), *map(int, directories))
        case ["load", database, progress]:
            load(Path(database), Path(progress))
        case ["change", root]:
            change(Path(root))
