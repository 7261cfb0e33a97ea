"""What is known of the nodes of a shard: sizes, stores, where views differ."""

from __future__ import annotations

from collections.abc import Iterable

from vssemu.api.shard import RUNS, ChainFacts, Run
from vssemu.stores.format import chunks_used, exceptions_per_area
from vssemu.vss.engine import Usage
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.shard import files
from vssemu_fuse.lunfs.shard.chains import Chains


class Facts:
    """The answers of a shard about its chains. Raises ObjectNotFound, OSError."""

    def __init__(self, chains: Chains) -> None:
        self._chains = chains
        self._listed: tuple[LunId, bool, list[Run]] | None = None

    def usage(self, lun: LunId) -> Usage:
        """Return sizes."""
        node = self._chains.node(lun)
        allocated = files.allocated(self._chains.of(lun).file(lun))
        return Usage(size=node.size if node.valid else 0, allocated=allocated)

    def invalid(self) -> list[LunId]:
        """Return the snapshots without data."""
        return [
            name
            for served in self._chains
            for name in served.luns
            if not served.chain.node(name).valid
        ]

    def facts(self, lun: LunId) -> ChainFacts:
        """Return what is known of a node."""
        served, node = self._chains.of(lun), self._chains.node(lun)
        is_origin = served.origin == lun
        chunk_size = served.chain.chunk_size
        used = 0 if is_origin else chunks_used(node.count, exceptions_per_area(chunk_size))
        return ChainFacts(
            origin=served.origin,
            chain=tuple(served.luns),
            size=node.size,
            chunk_size=chunk_size,
            exceptions=node.count,
            store_used=used * chunk_size,
            store_total=0 if is_origin else node.disk.size,
            is_valid=node.valid,
        )

    def changed(self, lun: LunId, start: int, *, own: bool) -> list[Run]:
        """Return where a view differs, a part at a time: of one state as long as it is asked."""
        served, node = self._chains.of(lun), self._chains.node(lun)
        if start == 0 or self._listed is None or self._listed[:2] != (lun, own):
            chunks = sorted(node.table) if own else served.chain.changed(lun)
            self._listed = (lun, own, _runs(chunks, served.chain.chunk_size))
        runs = self._listed[2]
        begin = next((n for n, run in enumerate(runs) if run.offset >= start), len(runs))
        return runs[begin : begin + RUNS]


def _runs(chunks: Iterable[int], size: int) -> list[Run]:
    """Return chunks, in order, as runs of bytes."""
    found: list[Run] = []
    first = last = -2
    for chunk in chunks:
        if chunk != last + 1:
            if last >= 0:
                found.append(Run(offset=first * size, length=(last + 1 - first) * size))
            first = chunk
        last = chunk
    if last >= 0:
        found.append(Run(offset=first * size, length=(last + 1 - first) * size))
    return found
