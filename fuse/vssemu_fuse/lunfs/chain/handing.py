"""Handing down: what a node has and its elders lack is copied to them before it goes.

The node is invalid by then, so it gets no more entries of its own, and copies of what its
younger neighbour is about to change go past it. Removing a node changes nobody's view, then.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from vssemu_fuse.lunfs.chain.copying import Copier
from vssemu_fuse.lunfs.chain.nodes import Node
from vssemu_fuse.lunfs.io.work import Gate, Operation

_AT_ONCE: Final = 512


def hand_down(copier: Copier, node: Node) -> Operation[None]:
    """Have the elders of an invalid node keep all that they see of it.

    When it returns it is so, and stays so: what was handed to an elder that ends itself is seen
    by yet elder ones there. An elder that has no room becomes invalid.
    """
    chunks = iter(list(node.table))
    while part := list(islice(chunks, _AT_ONCE)):
        while (gate := _missing(copier, node, part)) is not None:
            yield gate


def _missing(copier: Copier, node: Node, chunks: list[int]) -> Gate | None:
    gate = None
    for chunk in chunks:
        gate = copier.keep(node, chunk, chunk) or gate
    return gate
