"""`vssemu provider`: registration of hardware providers, and the program that runs one."""

from dataclasses import dataclass
from uuid import UUID, uuid5

import click

from vssemu.api import registry as api
from vssemu.tools import inside
from vssemu.tools.naming import GUID
from vssemu.tools.output import emit_json, emit_table, json_option
from vssemu.tools.running import run_instead
from vssemu.vss.enums import ProviderType
from vssemu.vss.identity import ProviderId, braced
from vssemu.vss.snapshot import ProviderProperties

TYPES = [kind.name.lower() for kind in ProviderType if kind is not ProviderType.UNKNOWN]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderFacts:
    """A registered provider as `--json` shows it. type: hardware, software, ..."""

    id: str
    name: str
    type: str
    version: str
    version_id: str
    class_id: str


def provider_facts(known: ProviderProperties) -> ProviderFacts:
    """Return what users and scripts see of a provider."""
    return ProviderFacts(
        id=str(known.provider_id),
        name=known.name,
        type=known.type.name.lower(),
        version=known.version,
        version_id=str(known.version_id),
        class_id=str(known.class_id),
    )


@click.group()
def provider() -> None:
    """Providers of this host."""


def _settings(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise click.BadParameter("give KEY=VALUE")
    return {key: value for key, _, value in pairs}


@provider.command()
@click.option(
    "--id", "provider_id", type=GUID, metavar="GUID", required=True, help="The provider's id."
)
@click.option("--name", required=True, help="Its name, as listings show it.")
@click.option("--version", required=True, help="Its version, any text.")
@click.option(
    "--type", "kind", type=click.Choice(TYPES), default="hardware", show_default=True, help="Type."
)
@click.option(
    "--class-id", type=GUID, metavar="GUID", help="Id of its class.  [default: the provider's id]"
)
@click.option(
    "--version-id", type=GUID, metavar="GUID", help="Id of the version.  [default: made from both]"
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_settings,
    help="Configuration that the provider is given when it is loaded. Repeatable.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def register(
    provider_id: UUID,
    name: str,
    version: str,
    kind: str,
    class_id: UUID | None,
    version_id: UUID | None,
    settings: dict[str, str],
    command: tuple[str, ...],
) -> None:
    """Register the provider that COMMAND runs; write -- before it.

    The service starts it on demand with a listening socket as descriptor 3 (LISTEN_FDS).
    """
    with inside.service() as vss:
        vss.client.call(
            api.register_provider,
            provider_id=ProviderId(provider_id),
            class_id=class_id or provider_id,
            name=name,
            type=ProviderType[kind.upper()],
            version=version,
            version_id=version_id or uuid5(provider_id, version),
            command=list(command),
            config=settings,
        )
    click.echo(f"provider {braced(provider_id)} is registered")


@provider.command()
@click.argument("provider_id", metavar="ID", type=GUID)
def unregister(provider_id: UUID) -> None:
    """Unregister the provider ID, which must have no shadow copies."""
    with inside.service() as vss:
        vss.client.call(api.unregister_provider, ProviderId(provider_id))
    click.echo(f"provider {braced(provider_id)} is unregistered")


@provider.command("list")
@json_option
def list_providers(as_json: bool) -> None:
    """List the registered providers."""
    with inside.service() as vss:
        found = [provider_facts(one) for one in vss.client.call(api.query_providers)]
    if as_json:
        emit_json(found)
        return
    emit_table(
        ("ID", "NAME", "TYPE", "VERSION"),
        [(one.id, one.name, one.type, one.version) for one in found],
    )


@provider.command()
@click.argument("target", metavar="MODULE:CLASS")
def run(target: str) -> None:
    """Run the provider MODULE:CLASS, which makes a class into a COMMAND to register."""
    run_instead("vssemu.daemons.provider_runner", target)
