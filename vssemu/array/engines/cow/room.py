"""What has to be known of chains when room has to be made: in haste, whatever shards do.

Of a shard that does not answer nothing is told.
"""

from collections.abc import Collection
from contextlib import suppress

from vssemu.api import shard as api
from vssemu.array.engines.cow.nodes import owner_of
from vssemu.array.engines.cow.shards import Shards
from vssemu.vss.identity import LunId


async def invalid(shards: Shards) -> list[LunId]:
    """Return the nodes without data. Raises VssError."""
    found: list[LunId] = []
    for shard in shards.all:
        names = await shard.call_in_haste(api.invalid)
        found.extend(names or ())
    return found


async def freed_at_once(shards: Shards, luns: Collection[LunId]) -> set[LunId]:
    """Return the LUNs that are, or have, the eldest node with data of a chain.

    Emptied, they give their bytes free; others hand them down. Raises VssError.
    """
    gone = set(await invalid(shards))
    found: set[LunId] = set()
    seen: set[LunId] = set()
    for lun in luns:
        if lun not in seen and (shard := shards.find(lun)) is not None:
            # FileNotFoundError: it was removed this moment.
            with suppress(FileNotFoundError):
                facts = await shard.call_in_haste(api.facts, lun)
                if facts is not None:
                    seen.update(facts.chain)
                    eldest = next(name for name in facts.chain if name not in gone)
                    found.add(owner_of(eldest))
    return found.intersection(luns)
