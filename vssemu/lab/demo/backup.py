"""The backup on systemTwo: a list of files from the documents, restic over the device object.

What of it must happen inside the host runs there: `python -m vssemu.lab.demo.backup list
LIST-OF-FILES OUT` turns the pure list into paths that exist; `verify RESTORED MANIFEST
DATABASE` checks a restored tree.
"""

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vssemu.vss.files import FilesToCopy


def existing(wanted: list[FilesToCopy]) -> Iterator[str]:
    """Yield the files on this host that the file sets mean, each once, sorted by set."""
    seen: set[str] = set()
    for files in wanted:
        for directory, directories, names in os.walk(files.path):
            directories.sort()
            if not files.recursive:
                directories.clear()
            for name in sorted(names):
                path = f"{directory}/{name}"
                if path not in seen and files.takes(directory, name):
                    seen.add(path)
                    yield path


def write_list(source: Path, target: Path) -> None:
    """Write the paths that a list of file sets (JSON) means, NUL-terminated, for restic."""
    wanted = msgspec.json.decode(source.read_bytes(), type=list[FilesToCopy])
    paths = list(existing(wanted))
    target.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    size = sum(Path(path).stat().st_size for path in paths)
    print(json.dumps({"files": len(paths), "bytes": size}))  # noqa: T201  (this is its result)


def verify(root: Path, manifest: Path, database: Path) -> None:
    """Compare a restored tree with the manifest and check the restored database.

    Prints JSON: files compared, differing paths, stray paths, the database's last order and
    the verdict of its integrity check.
    """
    expected: dict[str, str] = json.loads(manifest.read_text())
    found = {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and "orders" not in path.relative_to(root).parts[:1]
    }
    connection = sqlite3.connect(database)
    (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    (last,) = connection.execute("SELECT max(number) FROM orders").fetchone()
    (count,) = connection.execute("SELECT count(*) FROM orders").fetchone()
    connection.close()
    result = {
        "compared": len(expected),
        "differing": [path for path, digest in expected.items() if found.get(path) != digest],
        "stray": sorted(set(found) - set(expected)),
        "integrity": verdict,
        "last_order": last,
        "orders": count,
    }
    print(json.dumps(result))  # noqa: T201  (this is its result)


if __name__ == "__main__":
    verb, *paths = sys.argv[1:]
    {"list": write_list, "verify": verify}[verb](*map(Path, paths))  # type: ignore[operator]
