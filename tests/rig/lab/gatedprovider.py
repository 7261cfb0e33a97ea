"""The array's provider with gates: it stops at a call when a file tells it to.

With the file `stop-at-CALL` in the directory of the key `gates`, the provider makes
`reached-CALL` and waits until the first file is gone; `CALL.done` is the point after the call.
A provider like that is a provider of a developer: it runs out of process, by its own id.
"""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import trio

from vssemu.api import registry
from vssemu.providers.array import ArrayProvider
from vssemu.rpc import client as rpc
from vssemu.vss.enums import ProviderType
from vssemu.vss.identity import ProviderId
from vssemu.vss.provider import HostIdentity

GATED_ID = ProviderId(UUID("c0ffee00-1db0-4a5b-9d2e-0b6c7f1d2a31"))
GATE_SECONDS = 60.0
CALLS = (
    "begin_prepare_snapshot",
    "end_prepare_snapshots",
    "pre_commit_snapshots",
    "commit_snapshots",
    "post_commit_snapshots",
    "get_target_luns",
    "post_final_commit_snapshots",
    "locate_luns",
    "fill_in_lun_info",
)


class GatedProvider(ArrayProvider):
    """The array's provider, stopped where a test wants it."""

    gates: Path | None = None

    async def on_load(self, host: HostIdentity, config: Mapping[str, str]) -> None:
        self.gates = Path(config["gates"])
        await super().on_load(host, config)

    async def stop(self, point: str) -> None:
        assert self.gates is not None
        wanted = self.gates / f"stop-at-{point}"
        if wanted.exists():
            (self.gates / f"reached-{point}").touch()
            with trio.move_on_after(GATE_SECONDS):
                while wanted.exists():  # noqa: ASYNC110 - the test is another process
                    await trio.sleep(0.005)


def _gated(name: str) -> Callable[..., Awaitable[Any]]:
    plain = getattr(ArrayProvider, name)

    async def gated(self: GatedProvider, *arguments: Any, **keywords: Any) -> Any:
        await self.stop(name)
        result = await plain(self, *arguments, **keywords)
        await self.stop(f"{name}.done")
        return result

    return gated


for _name in CALLS:
    setattr(GatedProvider, _name, _gated(_name))


def register(vss: rpc.Client, gates: Path) -> None:
    """Register the provider on a host. gates: a directory that the host sees too."""
    root = Path(__file__).parents[3]
    vss.call(
        registry.register_provider,
        provider_id=GATED_ID,
        class_id=GATED_ID,
        name="gated provider",
        type=ProviderType.HARDWARE,
        version="1",
        version_id=uuid5(GATED_ID, "1"),
        command=[
            "/usr/bin/env",
            f"--chdir={root}",
            sys.executable,
            "-m",
            "vssemu.daemons.provider_runner",
            "tests.rig.lab.gatedprovider:GatedProvider",
        ],
        config={"gates": os.fspath(gates)},
    )
