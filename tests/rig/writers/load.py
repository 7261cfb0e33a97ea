"""Run as a program: commits numbered transactions for ever and prints each number afterwards.

A transaction inserts one row into `header` and five into `line`, so a copy that holds half of
one shows. Imported: the test's side of that process.
"""

import os
import select
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

ROWS = 5


@dataclass(frozen=True, kw_only=True)
class Volume:
    image: Path
    root: Path

    @property
    def name(self) -> str:
        return f"{self.root}/"


class Load:
    """The numbers that a load process reported as committed."""

    def __init__(self, process: "subprocess.Popen[bytes]", database: Path) -> None:
        assert process.stdout is not None
        self._stdout = process.stdout
        self._rest = b""
        self.database = database
        self.committed = 0

    def drain(self, timeout: float = 0.0) -> int:
        """Take what was reported so far and return the last number."""
        while select.select([self._stdout], [], [], timeout)[0]:
            data = os.read(self._stdout.fileno(), 65536)
            assert data, "the load process has ended"
            *lines, self._rest = (self._rest + data).split(b"\n")
            if lines:
                self.committed = int(lines[-1])
            timeout = 0.0
        return self.committed

    def wait_for(self, more: int) -> None:
        """Wait until that many more transactions are committed."""
        goal = self.drain() + more
        deadline = time.monotonic() + 30
        while self.drain(timeout=0.1) < goal:
            assert time.monotonic() < deadline, "the load does not go on"

    def close(self) -> None:
        self._stdout.close()


def read(database: Path) -> int:
    """Return the last transaction in a database, after checking that it is whole."""
    with closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=60)) as connection:
        connection.execute("BEGIN")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        last, headers = connection.execute("SELECT max(n), count(*) FROM header").fetchone()
        torn = connection.execute(
            "SELECT count(*) FROM (SELECT n FROM line GROUP BY n HAVING count(*) != ?)", (ROWS,)
        ).fetchone()[0]
        lines = connection.execute("SELECT count(*) FROM line").fetchone()[0]
    assert (headers, torn, lines) == (last, 0, last * ROWS)
    return int(last)


def main(database: str, journal_mode: str) -> None:
    connection = sqlite3.connect(database, timeout=30, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode={journal_mode}")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE header (n INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE line (n INTEGER, text TEXT)")
    number = 0
    while True:
        number += 1
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO header VALUES (?)", (number,))
        for _ in range(ROWS):
            connection.execute("INSERT INTO line VALUES (?, hex(randomblob(200)))", (number,))
        connection.execute("COMMIT")
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
