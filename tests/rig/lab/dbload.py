"""Run as a program: commits numbered transactions for ever, and prints each number afterwards."""

import sqlite3
import sys


def main(path: str) -> None:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode=wal")
    # Each commit waits for the disk, which keeps the database and its log small.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE header (n INTEGER PRIMARY KEY)")
    number = 0
    while True:
        number += 1
        connection.execute("INSERT INTO header VALUES (?)", (number,))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
