"""The chains of one number in a pool, by the names of their nodes.

Owns which there are and what is served by which name.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from vssemu import logs
from vssemu.linux import locks
from vssemu.vss.errors import BadState, ObjectNotFound
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.chain.nodes import Node
from vssemu_fuse.lunfs.fuse.names import Names
from vssemu_fuse.lunfs.io.work import Work
from vssemu_fuse.lunfs.shard import record
from vssemu_fuse.lunfs.shard.record import Record
from vssemu_fuse.lunfs.shard.served import ServedChain, Setting

_log = logs.get_logger(__name__)

T = TypeVar("T")


LOCK: Final = "../lunfs.lock"
"""Seen from the directory of the LUNs' directories."""


class Chains:
    """The chains that a shard serves; at first none, for it knows no pool."""

    def __init__(self, number: int, names: Names, setting: Setting) -> None:
        self.number = number
        self.names = names
        self.setting = setting
        self._pool: int | None = None
        self._loaded_for: int | None = None
        self._chains: dict[LunId, ServedChain] = {}

    @property
    def is_serving(self) -> bool:
        """Whether there is a pool."""
        return self._pool is not None

    def serve(self, directory: int, shards: int | None) -> bool:
        """Serve the pool whose directory of LUNs is open; takes the descriptor over.

        Returns False, and closes it, if it is served already. Raises BadState when another
        one is, or when another lunfs of this number serves it; OSError.
        """
        if self._pool is not None:
            is_same = os.path.samestat(os.fstat(self._pool), os.fstat(directory))
            os.close(directory)
            if not is_same:
                raise BadState(
                    f"shard {self.number} serves another pool",
                    item=str(self.number),
                    hint="start one lunfs for each pool",
                )
        else:
            try:
                self._lock(directory)
            except BaseException:
                os.close(directory)
                raise
            self._pool = directory
            self.setting.directory = Path(f"/proc/self/fd/{directory}")
            self.setting.fittings.open(self.setting.directory)
            self.load(shards)
            return True
        if shards not in {None, self._loaded_for}:
            self.load(shards)
        return False

    def _lock(self, directory: int) -> None:
        """Be the only shard of this number in the pool, to the end of this process.

        A byte of a file beside the directory is locked: two that write one chain destroy it.
        Raises BadState, OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(LOCK, flags, 0o600, dir_fd=directory)
        if not locks.try_lock_byte(lock, self.number):
            os.close(lock)
            raise BadState(
                f"another lunfs with the number {self.number} serves this pool",
                item=str(self.number),
                hint="end it, or give this one another number",
            )

    def load(self, shards: int | None = None) -> None:
        """Serve the chains of this number that the pool has; nothing else is done meanwhile.

        shards: how many there are: a number beyond is taken modulo. Raises OSError when the
        pool cannot be read; a chain that cannot be is left out.
        """
        self._loaded_for = shards
        for directory in sorted(self.setting.directory.iterdir()):
            if LunId(directory.name) in self._chains:
                continue
            try:
                found = record.read(directory)
                if found is not None and self._is_ours(found, shards):
                    self._load(self._settled_in(directory, found))
            except (OSError, ValueError) as error:
                _log.error("chain_not_served", origin=directory.name, error=str(error))

    def _is_ours(self, found: Record, shards: int | None) -> bool:
        number = found.shard if shards is None else found.shard % shards
        return number == self.number

    def _settled_in(self, directory: Path, found: Record) -> Record:
        """Have a chain be this shard's for good, and its record safe from a loss of power.

        What is copied from now on may be in the store of a snapshot that only the record of a
        predecessor names; were that lost, so were the elders of the snapshot.
        """
        if found.shard == self.number:
            if (directory / record.NEXT).exists():
                record.sync(directory)
            return found
        written = record.write(directory, msgspec.structs.replace(found, shard=self.number))
        record.sync(directory)
        return written

    def _load(self, found: Record) -> None:
        served = ServedChain(self.setting, found)
        self._finish(served.load())
        self.add(served)

    def _finish(self, work: Work[T]) -> T:
        """Do work with nothing beside it."""
        worker = self.setting.worker
        results: list[Any] = []
        worker.run(work, results.append)
        poll = select.poll()
        poll.register(worker.fileno(), select.POLLIN)
        while not results:
            if not worker.turn() and not results:
                poll.poll()
        if isinstance(results[0], OSError):
            raise results[0]
        value: T = results[0]
        return value

    @property
    def luns(self) -> list[LunId]:
        """All nodes."""
        return [name for served in self._chains.values() for name in served.luns]

    def show(self, name: LunId) -> None:
        """Serve a node's view by its name, fitted as it has to be now."""
        served = self.of(name)
        view = served.chain.view(name)
        self.names.add(name, self.setting.fittings.view(served.origin, name, view))

    def hide(self, name: LunId) -> None:
        """Serve a node no more by its name."""
        self.names.remove(name)
        self.setting.fittings.forget(name)

    def of(self, name: LunId) -> ServedChain:
        """Return the chain of a node. Raises ObjectNotFound."""
        found = self.find(name)
        if found is None:
            raise ObjectNotFound(f"shard {self.number} does not serve {name}", item=name)
        return found

    def find(self, name: LunId) -> ServedChain | None:
        """Return the chain of a node, None for none."""
        if (own := self._chains.get(name)) is not None:
            return own
        return next((each for each in self._chains.values() if each.has(name)), None)

    def node(self, name: LunId) -> Node:
        """Return a node. Raises ObjectNotFound."""
        return self.of(name).chain.node(name)

    def __iter__(self) -> Iterator[ServedChain]:
        return iter(self._chains.values())

    def add(self, served: ServedChain) -> None:
        """Serve a chain that was made."""
        self._chains[served.origin] = served
        for name in served.luns:
            self.show(name)

    def drop(self, origin: LunId) -> None:
        """Serve a chain no more, whose names are gone; again is no error."""
        if (served := self._chains.pop(origin, None)) is not None:
            served.chain.close()
