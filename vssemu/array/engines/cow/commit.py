"""The instant of a snapshot over shards: blocking connections, opened before it.

One shard holds, inserts and releases by itself, in one call. Over several, all hold before the
first inserts, and none releases before the last has. A shard that dies forgets what it held,
so a set over several shards whose shard died is not taken.

Blocks: call in a thread.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from vssemu.api import shard as api
from vssemu.array.engines.cow.shards import Shard
from vssemu.rpc.client import Client
from vssemu.rpc.errors import RpcBroken, RpcClosed, RpcError
from vssemu.rpc.interface import Method
from vssemu.vss.engine import CopyPair
from vssemu.vss.errors import BadState, Fail
from vssemu.vss.identity import LunId

HOLD_SECONDS: Final = 5.0
"""How long a shard holds writes at most; the documented 10 s are for all of a creation."""

CALL_SECONDS: Final = 5.0
RESTART_SECONDS: Final = 4.0
"""How long a shard that died in the commit may take to be back."""

_RETRY_SECONDS: Final = 0.01

P = ParamSpec("P")
R = TypeVar("R")
Groups = Mapping[Shard, Sequence[CopyPair]]


class Line:
    """A blocking connection to one shard, made anew when it broke."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._client: Client | None = shard.connect(CALL_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def ask(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method, once more when the shard died over it. Raises VssError."""
        return self._ask(method, args, kwargs, again=True)

    def ask_once(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method; a shard that died over it is a failure. Raises VssError."""
        return self._ask(method, args, kwargs, again=False)

    def _ask(
        self, method: Method[..., R], args: Any, kwargs: Mapping[str, Any], *, again: bool
    ) -> R:
        deadline = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                if self._client is None:
                    self._client = self.shard.connect(CALL_SECONDS)
                return self._client.call(method, *args, **kwargs)
            except (RpcBroken, RpcClosed, OSError) as error:
                self.close()
                if not again or isinstance(error, TimeoutError) or time.monotonic() > deadline:
                    raise self._failed(error) from error
            except RpcError as error:
                raise self._failed(error) from error
            time.sleep(_RETRY_SECONDS)

    def _failed(self, error: Exception) -> Fail:
        return Fail(
            f"{self.shard.describe()} did not take part: {error}",
            item=str(self.shard.number),
            hint="see its log; its supervisor restarts it",
        )


class Instant:
    """The connections for one commit, open until `close`. Raises VssError, OSError."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._stack = ExitStack()
        self._lines: dict[Shard, Line] = {}
        with ExitStack() as opening:
            for shard in groups:
                self._lines[shard] = line = Line(shard)
                opening.callback(line.close)
            self._stack = opening.pop_all()

    def close(self) -> None:
        """Close the connections."""
        self._stack.close()

    def commit(self) -> dict[LunId, int]:
        """Take the copies; return their sizes by target. Raises VssError."""
        if len(self._lines) == 1:
            return self._commit(again=True)
        sources = {shard: [pair.source for pair in pairs] for shard, pairs in self._groups.items()}
        with held(self._lines, sources):
            return self._commit(again=False)

    def _commit(self, *, again: bool) -> dict[LunId, int]:
        sizes: dict[LunId, int] = {}
        for shard, pairs in self._groups.items():
            line = self._lines[shard]
            ask = line.ask if again else line.ask_once
            found = ask(api.commit, list(pairs))
            sizes.update(zip((pair.target for pair in pairs), found, strict=True))
        return sizes


@contextmanager
def held(lines: Mapping[Shard, Line], luns: Mapping[Shard, Sequence[LunId]]) -> Iterator[None]:
    """Hold the writes to nodes of several shards during the block, HOLD_SECONDS at most.

    Raises BadState at the end if one was let go before; VssError.
    """
    begun: list[Shard] = []
    lasted = True
    try:
        for shard, names in luns.items():
            begun.append(shard)
            lines[shard].ask(api.hold, list(names), HOLD_SECONDS)
        yield
    finally:
        for shard in begun:
            lasted &= lines[shard].ask(api.release, list(luns[shard]))
    if not lasted:
        raise BadState(
            f"the writes to {', '.join(n for names in luns.values() for n in names)} were not"
            " held long enough",
            hint="a shard was restarted, or too busy; try again",
        )


@contextmanager
def holding(luns: Mapping[Shard, Sequence[LunId]]) -> Iterator[None]:
    """Hold the writes to nodes during the block, over connections of its own. As `held`."""
    with ExitStack() as stack:
        lines = {}
        for shard in luns:
            lines[shard] = line = Line(shard)
            stack.callback(line.close)
        with held(lines, luns):
            yield
