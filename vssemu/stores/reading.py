"""An exception store as it lies in a file or on a device: header, table and chunks.

What the kernel would refuse or misread is refused here, in words: another magic number, a
table that ends with the file, an exception that names what is no data chunk. Works on
descriptors with O_DIRECT too.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vssemu.stores.format import (
    EXCEPTION_SIZE,
    SMALLEST_CHUNK,
    Header,
    area_chunk,
    exceptions_per_area,
    next_data_chunk,
    unpack_header,
)
from vssemu.vss.errors import InvalidArgument

Numbers = NDArray[np.uint64]

_ENTRY: Final = np.dtype([("old", "<u8"), ("new", "<u8")])
_HINT: Final = "give a store that dm-snapshot wrote for this origin, whole and unchanged"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Store:
    """A store as it was read.

    chunk_size, length: bytes. valid: False once it was invalidated; what it has is there
    nevertheless. old, new: chunks of the exceptions in the order of the table.
    """

    chunk_size: int
    valid: bool
    length: int
    old: Numbers
    new: Numbers

    def __len__(self) -> int:
        return len(self.old)

    @property
    def next_chunk(self) -> int:
        """The data chunk that the next exception gets, as the kernel chooses it."""
        last = int(self.new.max()) if len(self) else 0
        return next_data_chunk(last, exceptions_per_area(self.chunk_size))


def read_header(fd: int, name: str) -> Header:
    """Return the header of a store. name: for errors. Raises InvalidArgument, OSError."""
    with mmap.mmap(-1, SMALLEST_CHUNK) as room, memoryview(room) as view:
        count = os.preadv(fd, [view], 0)
        if count < SMALLEST_CHUNK:
            raise _refusal(name, f"it has {count} bytes, too few for a header")
        try:
            return unpack_header(view)
        except ValueError as error:
            raise _refusal(name, str(error)) from error


def read_store(fd: int, name: str, *, origin_size: int | None = None) -> Store:
    """Return header and table of a store; a million exceptions take some tenths of a second.

    name: of the file, for errors. origin_size: bytes of the origin, when it is known.
    Raises InvalidArgument for what is no store or a damaged one, or not one of an origin of
    that size; OSError.
    """
    header = read_header(fd, name)
    length = os.lseek(fd, 0, os.SEEK_END)
    areas = [np.empty(0, dtype=_ENTRY), *_areas(fd, name, header.chunk_size)]
    table = np.concatenate(areas)
    store = Store(
        chunk_size=header.chunk_size,
        valid=header.valid,
        length=length,
        old=np.ascontiguousarray(table["old"]),
        new=np.ascontiguousarray(table["new"]),
    )
    _check(store, name, origin_size)
    return store


def _areas(fd: int, name: str, chunk_size: int) -> Iterator[NDArray[np.void]]:
    """Read the table area by area, up to the exception that ends it."""
    per = exceptions_per_area(chunk_size)
    with mmap.mmap(-1, chunk_size) as room, memoryview(room) as view:
        area, count = 0, per
        while count == per:
            if os.preadv(fd, [view], area_chunk(area, per) * chunk_size) < chunk_size:
                raise _refusal(name, f"it ends before area {area} of its table")
            entries = np.frombuffer(bytes(view), dtype=_ENTRY)
            ends = np.flatnonzero(entries["new"] == 0)
            count = int(ends[0]) if len(ends) else per
            yield entries[:count]
            area += 1


def _check(store: Store, name: str, origin_size: int | None) -> None:
    """Raise InvalidArgument for an exception that names what cannot be."""
    per = np.uint64(store.chunk_size // EXCEPTION_SIZE)
    one = np.uint64(1)
    chunks = np.uint64(store.length // store.chunk_size)
    _refuse_first(store, name, store.new >= chunks, "data beyond the end of the store")
    is_metadata = (store.new - one) % (per + one) == 0
    _refuse_first(store, name, is_metadata, "data in a chunk of the table")
    _refuse_first(store, name, _repeated(store.new), "data that another exception has")
    if origin_size is not None:
        beyond = store.old >= np.uint64(-(-origin_size // store.chunk_size))
        _refuse_first(store, name, beyond, f"a chunk that an origin of {origin_size} bytes lacks")
    _refuse_first(store, name, _repeated(store.old), "a chunk that another exception has")


def _repeated(numbers: Numbers) -> NDArray[np.bool_]:
    """Return what stands in the array before, place by place."""
    first = np.unique(numbers, return_index=True)[1]
    repeated = np.ones(len(numbers), dtype=np.bool_)
    repeated[first] = False
    return repeated


def _refuse_first(store: Store, name: str, wrong: NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        number = int(wrong.argmax())
        old, new = int(store.old[number]), int(store.new[number])
        raise _refusal(name, f"exception {number} (chunk {old}, kept in {new}) names {what}")


def _refusal(name: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"{name} is no exception store that can be used: {what}", item=name, hint=_HINT
    )
