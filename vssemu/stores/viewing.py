"""The view of a snapshot, out of an origin and its store: what the kernel would show."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from vssemu.stores.format import LARGEST_CHUNK
from vssemu.stores.reading import Store

_PIECE: Final = LARGEST_CHUNK


def view_pieces(origin: int, origin_size: int, exceptions: int, store: Store) -> Iterator[bytes]:
    """Return the view from its begin to its end, in pieces of 1 MiB but for the last.

    origin, exceptions: descriptors without O_DIRECT, of the origin and of the file that
    `store` was read from. origin_size: bytes; what of the last chunk lies beyond is not in
    the view. Raises OSError: EIO when a file got shorter.
    """
    order = np.argsort(store.old)
    old, new = store.old[order], store.new[order]
    size = store.chunk_size
    starts = np.arange(0, origin_size + _PIECE, _PIECE, dtype=np.uint64) // np.uint64(size)
    bounds = np.searchsorted(old, starts)
    for number, start in enumerate(range(0, origin_size, _PIECE)):
        length = min(_PIECE, origin_size - start)
        first, last = int(bounds[number]), int(bounds[number + 1])
        if first == last:
            yield _read(origin, length, start)
            continue
        piece = bytearray(_read(origin, length, start))
        for at in range(first, last):
            place = int(old[at]) * size - start
            data = _read(exceptions, size, int(new[at]) * size)
            piece[place : place + size] = data[: length - place]
        yield bytes(piece)


def view_digest(
    origin: int,
    origin_size: int,
    exceptions: int,
    store: Store,
    progress: Callable[[int], None] = lambda done: None,
) -> str:
    """Return the SHA-256 of the view, in hexadecimal digits; as `view_pieces`.

    progress: called with the bytes that are done; what it raises ends the work.
    """
    digest, done = hashlib.sha256(), 0
    for piece in view_pieces(origin, origin_size, exceptions, store):
        digest.update(piece)
        done += len(piece)
        progress(done)
    return digest.hexdigest()


def _read(fd: int, length: int, offset: int) -> bytes:
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise OSError(
                errno.EIO, f"the file ends at {offset + len(data)}", f"/proc/self/fd/{fd}"
            )
        data += more
    return data
