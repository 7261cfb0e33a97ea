"""A whole exception store, written in one go.

Data chunks are handed out as the kernel does it, in rising order, chunks of the table passed
over. The header comes last, so a file that was given up halfway is no store.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final

from vssemu.stores.format import (
    Bytes,
    area_chunk,
    check_chunk_size,
    data_chunk,
    exceptions_per_area,
    pack_exceptions,
    pack_header,
    store_length,
)

_GATHERED: Final = 1 << 20
"""Bytes of neighbouring chunks that are written at once."""


def write_store(fd: int, chunk_size: int, chunks: Iterable[tuple[int, Bytes]]) -> int:
    """Write a store of these chunks and return how many they were.

    fd: a regular file, emptied first; what is zero stays a hole. chunks: old chunk and its
    bytes, a whole chunk each, which are used before the next is asked for. The file is as long
    as its chunks need. Not durable before `os.fsync`.
    Raises ValueError for another chunk size or a chunk of another length; OSError.
    """
    check_chunk_size(chunk_size)
    os.ftruncate(fd, 0)
    writer = _Writer(fd, chunk_size)
    for old, data in chunks:
        writer.add(old, data)
    return writer.finish()


class _Writer:
    def __init__(self, fd: int, chunk_size: int) -> None:
        self._fd = fd
        self._chunk_size = chunk_size
        self._per = exceptions_per_area(chunk_size)
        self._zero = bytes(chunk_size)
        self._count = 0
        self._area: list[tuple[int, int]] = []
        self._run: list[bytes] = []
        self._run_at = 0

    def add(self, old: int, data: Bytes) -> None:
        if len(data) != self._chunk_size:
            raise ValueError(f"chunk {old} has {len(data)} bytes, not {self._chunk_size}")
        new = data_chunk(self._count, self._per)
        self._put(new * self._chunk_size, data)
        self._area.append((old, new))
        self._count += 1
        if len(self._area) == self._per:
            self._end_area()

    def finish(self) -> int:
        self._end_area()
        os.ftruncate(self._fd, store_length(self._count, self._chunk_size))
        _write(self._fd, [pack_header(self._chunk_size)], 0)
        return self._count

    def _put(self, offset: int, data: Bytes) -> None:
        """Gather a chunk to the run that ends where it begins."""
        size = self._chunk_size
        run_end = self._run_at + len(self._run) * size
        if data == self._zero:
            return
        if offset != run_end or len(self._run) * size >= _GATHERED:
            self._end_run()
            self._run_at = offset
        self._run.append(bytes(data))

    def _end_run(self) -> None:
        if self._run:
            _write(self._fd, self._run, self._run_at)
            self._run = []

    def _end_area(self) -> None:
        self._end_run()
        if self._area:
            # The last area that was begun is the one of the exception before this moment.
            area = (self._count - 1) // self._per
            offset = area_chunk(area, self._per) * self._chunk_size
            _write(self._fd, [pack_exceptions(self._area)], offset)
            self._area = []


def _write(fd: int, pieces: Sequence[bytes], offset: int) -> None:
    """Write all bytes. Raises OSError."""
    rest = memoryview(b"".join(pieces))
    while rest:
        count = os.pwrite(fd, rest, offset)
        rest, offset = rest[count:], offset + count
