"""A provider that misbehaves on demand: any hardware provider, with a fault point at each call.

    vssemu provider register --id GUID --name "faulty provider" --version 1 \
        --set wraps=package.module:Class \
        -- vssemu provider run vssemu.providers.faulty:FaultyProvider
    vssemu fault set provider commit_snapshots --code VSS_E_PROVIDER_VETO

Before each call stands the point of its name, after it `NAME.after`, where the work is done
and only the answer is not. Requesters that name no provider are given it as well once the
array's own is unregistered.

Configuration: wraps, the provider, the array's own by default; label: its points are
`provider:LABEL` instead of `provider`, which tells several apart. The service adds faults, the
directory. All of it reaches the wrapped provider too.
"""

import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from vssemu.api import provider as api
from vssemu.faults import FaultPoints
from vssemu.providers.runner import call, check_provider
from vssemu.vss.errors import VssError
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import HostIdentity, ProviderFailure

ARRAYS_OWN: Final = "vssemu.providers.array:ArrayProvider"

_CALLS: Final = frozenset(method.function_name for method in api.provider.methods.values())


class FaultyProvider:
    """A hardware provider whose calls go to another one, past fault points."""

    def __init__(self) -> None:
        self._wrapped: Any = None
        self._faults = FaultPoints(None, "provider")

    async def on_load(self, host: HostIdentity, config: Mapping[str, str]) -> None:
        """Make the wrapped provider and load it.

        Raises ProviderFailure for one that cannot be made, or is no provider.
        """
        if config.get("faults"):
            label = config.get("label")
            where = f"provider:{label}" if label else "provider"
            self._faults = FaultPoints(Path(config["faults"]), where)
        if self._wrapped is None:
            self._wrapped = _made(config.get("wraps", ARRAYS_OWN))
        await self._between_points("on_load", host, config)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return a call of the provider, with its points."""
        if name not in _CALLS:
            raise AttributeError(f"a hardware provider has no {name}", name=name, obj=self)

        async def between_points(*arguments: Any, **named: Any) -> Any:
            return await self._between_points(name, *arguments, **named)

        return between_points

    async def _between_points(self, name: str, *arguments: Any, **named: Any) -> Any:
        await self._reach(name)
        result = await call(getattr(self._wrapped, name), *arguments, **named)
        await self._reach(f"{name}.after")
        return result

    async def _reach(self, point: str) -> None:
        try:
            await self._faults.reach(point)
        except VssError as error:
            raise ProviderFailure(error.hresult, error.fact) from error


def _made(name: str) -> Any:
    try:
        provider = pkgutil.resolve_name(name)()
    except Exception as error:  # a module may raise anything while it is imported
        why = f"wraps={name}: {type(error).__name__}: {error}; give package.module:Class"
        raise ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, why) from error
    if missing := check_provider(provider):
        why = f"wraps={name} is no hardware provider: it lacks {', '.join(missing)}"
        raise ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, why)
    return provider
