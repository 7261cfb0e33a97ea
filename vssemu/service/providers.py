"""The providers of this host: which are registered, how they are called, what they answered.

Every answer passes one border: a documented failure code becomes its VssError, any other
code, a crash, a broken connection or a passed time limit becomes UnexpectedProviderError;
each is an event with provider, method and code. A program that passed its limit is killed,
because nothing else ends what it does, and started anew at the next need.

Programs are started ahead of their first use, because no caller should wait for that; a call
that comes meanwhile waits for the same start. One that fails is tried again when it is needed.
Source: error-handling-in-shadow-copy-providers; IVssAdmin.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

import structlog
import trio

from vssemu.api import provider as table
from vssemu.rpc.client_trio import Client
from vssemu.rpc.errors import BadReply, RpcError, ServiceError
from vssemu.rpc.interface import Method
from vssemu.service import brief, runner
from vssemu.service.catalog import Catalog, StoredProvider
from vssemu.service.events import EventLog
from vssemu.service.limits import ProviderLimits
from vssemu.service.record import ProviderCall
from vssemu.service.recording import noted
from vssemu.service.runner import ProviderAnswer
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import (
    InvalidArgument,
    ProviderAlreadyRegistered,
    ProviderInUse,
    ProviderNotRegistered,
    UnexpectedProviderError,
    VssError,
    error_for,
)
from vssemu.vss.hresult import PROVIDER_RETURNS, Hresult, named
from vssemu.vss.identity import ProviderId, braced
from vssemu.vss.provider import HostIdentity

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_EXEMPT = frozenset({table.abort_snapshots.name, table.on_unload.name})
"""What these return is not translated. Source: error-handling-in-shadow-copy-providers."""

_ORDER = (
    ProviderType.HARDWARE,
    ProviderType.SOFTWARE,
    ProviderType.FILESHARE,
    ProviderType.SYSTEM,
    ProviderType.UNKNOWN,
)
"""In which order GUID_NULL tries them. Source: selecting-providers."""

_DEAD = (RpcError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Program(Protocol):
    """A provider's program as the hub drives it; `runner.Runner` is one."""

    @property
    def is_alive(self) -> bool:
        """Whether it can be called."""
        ...

    async def watch(self) -> None:
        """Return when it has ended."""
        ...

    async def connection(self) -> Client:
        """Return a connection nobody uses."""
        ...

    def give_back(self, client: Client) -> None:
        """Keep a connection for the next call."""
        ...

    async def kill(self) -> None:
        """End it."""
        ...


Start = Callable[[StoredProvider], Program]
"""Starts a provider's program. Raises OSError."""


class Provider:
    """A registered provider; calls start its program when it is not running.

    in_use: how many copies in the making are its. starts: how often its program was started.
    """

    def __init__(
        self,
        stored: StoredProvider,
        *,
        host: HostIdentity,
        start: Start,
        limits: ProviderLimits,
        log: EventLog,
        nursery: trio.Nursery,
    ) -> None:
        self.stored = stored
        self.id = stored.properties.provider_id
        self.name = stored.properties.name
        self.type = stored.properties.type
        self.in_use = 0
        self.starts = 0
        self._host = host
        self._start = start
        self._limits = limits
        self._log = log
        self._nursery = nursery
        self._program: Program | None = None
        self._loading = trio.Lock()
        self._ahead = trio.CancelScope()

    async def preload(self) -> None:
        """Load the provider before somebody needs it; a failure is logged, and no more."""
        with self._ahead:
            try:
                await self._loaded()
            except VssError as error:
                logger.warning("provider_not_preloaded", provider=self.name, error=str(error))

    async def call(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of the provider, starting its program if need be.

        Raises VssError: what the provider answered, translated, or UnexpectedProviderError.
        """
        program = await self._loaded()
        seconds = self._limits.of(method.function_name)
        return await self._exchange(program, seconds, method, *args, **kwargs)

    async def unload(self, *, force: bool) -> bool:
        """Ask the provider to settle, then end its program; False when it refused.

        A provider that does not answer counts as idle.
        """
        self._ahead.cancel()
        async with self._loading:
            program = self._program
        if program is None or not program.is_alive:
            return True
        try:
            seconds = self._limits.on_unload
            idle = await self._exchange(program, seconds, table.on_unload, force)
        except VssError as error:
            logger.info("provider_unload", provider=self.name, error=str(error))
            idle = True
        if idle or force:
            self._program = None
            await program.kill()
        return idle or force

    async def kill(self, method: str, reason: str) -> None:
        """End the program, hung in a method; the next call starts it anew."""
        program, self._program = self._program, None
        if program is not None and program.is_alive:
            self._report(method, int(Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR), reason)
            await program.kill()

    async def _loaded(self) -> Program:
        async with self._loading:
            if self._program is not None and self._program.is_alive:
                return self._program
            program = await self._started()
            try:
                seconds = self._limits.start
                config = dict(self.stored.config)
                await self._exchange(program, seconds, table.on_load, self._host, config)
            except BaseException:
                await program.kill()
                raise
            self._program = program
            self.starts += 1
            return program

    async def _started(self) -> Program:
        try:
            program = self._start(self.stored)
        except OSError as error:
            raise self._dead(table.on_load, f"its program did not start: {error}") from error
        self._nursery.start_soon(program.watch)
        await trio.lowlevel.checkpoint()
        return program

    async def _exchange(
        self,
        program: Program,
        seconds: float,
        method: Method[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        note = ProviderCall(
            provider=self.name,
            provider_id=str(self.id),
            method=method.name,
            arguments=brief.arguments(method, args, kwargs),
        )
        with noted(note):
            result = await self._answered(program, seconds, note, method, *args, **kwargs)
            note.returned, note.result = named(Hresult.S_OK), brief.value(result)
            return result

    async def _answered(
        self,
        program: Program,
        seconds: float,
        note: ProviderCall,
        method: Method[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        answered = False
        client: Client | None = None
        try:
            with trio.fail_after(seconds):
                client = await program.connection()
                result = await client.call(method, *args, **kwargs)
            answered = True
            return result
        except ProviderAnswer as answer:
            answered = True
            note.returned = named(answer.hresult)
            raise self._translated(method, answer) from answer
        except trio.TooSlowError:
            await program.kill()
            text = f"it did not answer within {seconds:g} s and was killed"
            raise self._dead(method, text) from None
        except (BadReply, ServiceError) as error:
            answered = True
            raise self._dead(method, f"its answer makes no sense: {error}") from error
        except _DEAD as error:
            await program.kill()
            raise self._dead(method, str(error)) from error
        finally:
            if client is not None and answered:
                program.give_back(client)
            elif client is not None:
                # An abandoned call goes on at the other end; its connection is of no use.
                with trio.CancelScope(shield=True):
                    await client.aclose()

    def _translated(self, method: Method[..., Any], answer: ProviderAnswer) -> VssError:
        where = f"{method.name} of provider {self.name} {braced(self.id)}"
        code = answer.hresult
        legal = code in PROVIDER_RETURNS and code != Hresult.S_OK
        self._report(method.name, code, answer.fact, legal=legal)
        fact = f"{where}: {answer.fact or named(code)}"
        if legal or (method.name in _EXEMPT and code & 0x8000_0000):
            return error_for(code, fact, hint=answer.hint, item=str(self.id))
        return UnexpectedProviderError(
            f"{where} answered {named(code)}: {answer.fact}",
            hint="the provider may not use this code; the event log has it",
            item=str(self.id),
        )

    def _dead(self, method: Method[..., Any], reason: str) -> VssError:
        code = int(Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR)
        self._report(method.name, code, reason)
        return UnexpectedProviderError(
            f"{method.name} of provider {self.name} {braced(self.id)}: {reason}",
            hint="the provider is started anew at the next call; see its log",
            item=str(self.id),
        )

    def _report(self, method: str, code: int, text: str, *, legal: bool = False) -> None:
        self._log.record(
            "provider_error",
            provider_id=str(self.id),
            provider=self.name,
            method=method,
            code=f"0x{code:08x}",
            code_name=named(code),
            documented=legal,
            text=text,
        )


class ProviderHub:
    """All providers of the host."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        host: HostIdentity,
        start: Start,
        limits: ProviderLimits,
        log: EventLog,
        nursery: trio.Nursery,
    ) -> None:
        self._catalog = catalog
        self._host = host
        self._start = start
        self._limits = limits
        self._log = log
        self._nursery = nursery
        self._by_id = {
            stored.properties.provider_id: self._make(stored) for stored in catalog.providers()
        }

    def _make(self, stored: StoredProvider) -> Provider:
        return Provider(
            stored,
            host=self._host,
            start=self._start,
            limits=self._limits,
            log=self._log,
            nursery=self._nursery,
        )

    def all(self) -> list[Provider]:
        """Return the providers, in the order in which GUID_NULL tries them."""
        return sorted(self._by_id.values(), key=lambda each: _ORDER.index(each.type))

    def find(self, provider_id: ProviderId) -> Provider:
        """Return a provider. Raises ProviderNotRegistered."""
        try:
            return self._by_id[provider_id]
        except KeyError:
            raise ProviderNotRegistered(
                f"no provider {braced(provider_id)} is registered",
                hint="register it: vssemu provider register",
                item=str(provider_id),
            ) from None

    def register(self, stored: StoredProvider) -> None:
        """Register a provider and begin to load it.

        Raises ProviderAlreadyRegistered, InvalidArgument.
        """
        facts = stored.properties
        if facts.provider_id in self._by_id:
            raise ProviderAlreadyRegistered(
                f"provider {braced(facts.provider_id)} is registered",
                hint="to update it, unregister it first",
                item=str(facts.provider_id),
            )
        if not stored.command or facts.type is ProviderType.UNKNOWN or not facts.name:
            raise InvalidArgument(
                f"RegisterProvider({braced(facts.provider_id)}): name, type and command are"
                " needed",
                item=str(facts.provider_id),
            )
        self._catalog.add_provider(stored)
        self._by_id[facts.provider_id] = self._make(stored)
        self._nursery.start_soon(self._by_id[facts.provider_id].preload)

    def preload(self) -> None:
        """Begin to load all providers, in the background."""
        for provider in self._by_id.values():
            self._nursery.start_soon(provider.preload)

    async def unregister(self, provider_id: ProviderId, users: Sequence[str]) -> None:
        """Unregister a provider and end its program.

        users: what of the catalog still needs it. Raises ProviderNotRegistered, ProviderInUse.
        """
        provider = self.find(provider_id)
        why = f"{len(users)} shadow copies are its" if users else "a call of it is under way"
        if provider.in_use or users:
            raise ProviderInUse(
                f"provider {provider.name} {braced(provider_id)}: {why}",
                hint="delete or break its shadow copies first",
                item=str(provider_id),
            )
        if not await provider.unload(force=False):
            raise ProviderInUse(
                f"provider {provider.name} {braced(provider_id)} is not idle",
                hint="try again later",
                item=str(provider_id),
            )
        self._catalog.remove_provider(provider_id)
        del self._by_id[provider_id]

    async def close(self) -> None:
        """Unload all providers by force, at once."""
        async with trio.open_nursery() as nursery:
            for provider in self._by_id.values():
                nursery.start_soon(_unload, provider)


async def _unload(provider: Provider) -> None:
    await provider.unload(force=True)


def socket_activation(run: Path, environment: Mapping[str, str]) -> Start:
    """Return the `Start` that runs a provider's command with a socket below `run`.

    environment: given to every provider; its own configuration is added as VSSEMU_<KEY>.
    """

    def start(stored: StoredProvider) -> Program:
        facts = stored.properties
        own = {f"VSSEMU_{key.upper()}": value for key, value in stored.config.items()}
        settings = {**environment, **own, "VSSEMU_PROVIDER_ID": str(facts.provider_id)}
        path = run / "providers" / f"{facts.provider_id}.sock"
        return runner.spawn(stored.command, path, settings, facts.name)

    return start
