"""io.vssemu.Registry: registration of providers (IVssAdmin), for administrators."""

from uuid import UUID

from vssemu.rpc.interface import Declared, Interface
from vssemu.vss.enums import ProviderType
from vssemu.vss.identity import ProviderId
from vssemu.vss.snapshot import ProviderProperties

registry = Interface("io.vssemu.Registry", __doc__)


@registry.method()
def register_provider(
    provider_id: ProviderId,
    class_id: UUID,
    name: str,
    type: ProviderType,  # noqa: A002  (the member's name in VSS_PROVIDER_PROP)
    version: str,
    version_id: UUID,
    command: list[str],
    config: dict[str, str],
) -> None:
    """Register a provider. command: started on demand, with a listening socket."""
    raise Declared


@registry.method()
def unregister_provider(provider_id: ProviderId) -> None:
    """Unregister a provider that is not in use."""
    raise Declared


@registry.method(returns="providers")
def query_providers() -> list[ProviderProperties]:
    """Return the registered providers."""
    raise Declared
