"""io.vssemu.Registry and io.vssemu.Writer, served: thin, the hubs know how."""

import os
from collections.abc import Awaitable, Callable
from uuid import UUID

from vssemu.rpc.caller import Caller
from vssemu.service.catalog import StoredProvider
from vssemu.service.parts import Parts
from vssemu.service.writers import Answer
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import AccessDenied
from vssemu.vss.identity import ProviderId
from vssemu.vss.snapshot import ProviderProperties
from vssemu.vss.writer import WriterEvent, WriterFailure, WriterIdentity


class RegistryService:
    """The implementation of io.vssemu.Registry (IVssAdmin)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def register_provider(
        self,
        caller: Caller,
        provider_id: ProviderId,
        class_id: UUID,
        name: str,
        type: ProviderType,  # noqa: A002  (the declared name)
        version: str,
        version_id: UUID,
        command: list[str],
        config: dict[str, str],
    ) -> None:
        """Register a provider. Raises AccessDenied: its command runs as this service does."""
        _refuse_others(caller, "RegisterProvider")
        facts = ProviderProperties(
            provider_id=provider_id,
            name=name,
            type=type,
            version=version,
            version_id=version_id,
            class_id=class_id,
        )
        self._parts.providers.register(
            StoredProvider(properties=facts, command=tuple(command), config=config)
        )

    async def unregister_provider(self, caller: Caller, provider_id: ProviderId) -> None:
        """Unregister a provider that no shadow copy needs. Raises AccessDenied."""
        _refuse_others(caller, "UnregisterProvider")
        users = [
            str(copy.id)
            for stored in self._parts.catalog.sets()
            for copy in stored.copies
            if copy.properties.provider_id == provider_id
        ]
        await self._parts.providers.unregister(provider_id, users)

    async def query_providers(self, caller: Caller) -> list[ProviderProperties]:
        """Return the registered providers."""
        return [provider.stored.properties for provider in self._parts.providers.all()]


def _refuse_others(caller: Caller, call: str) -> None:
    """Raise AccessDenied unless the caller is the user that this service runs as: root.

    An operator may back up; who registers a command line has it run with all rights.
    Source: IVssAdmin::RegisterProvider (E_ACCESSDENIED for others than administrators).
    """
    user = caller.credentials.uid
    if user != os.geteuid():
        raise AccessDenied(
            f"{call}: user {user} is no administrator", hint="run it as root", item=str(user)
        )


class WriterService:
    """The implementation of io.vssemu.Writer."""

    def __init__(self, parts: Parts) -> None:
        self._hub = parts.writers

    async def subscribe(
        self,
        caller: Caller,
        writer: WriterIdentity,
        reply: Callable[[WriterEvent], Awaitable[None]],
    ) -> None:
        """Stream events to a writer."""
        peer = caller.credentials
        await self._hub.subscribe(writer, peer.uid, peer.pid, reply)

    async def answer(
        self,
        caller: Caller,
        event: str,
        ok: bool,
        failure: WriterFailure | None,
        document: str | None,
    ) -> None:
        """Take a writer's answer."""
        answer = Answer(ok=ok, failure=failure, document=document)
        self._hub.answer(event, answer, caller.credentials.uid)
