"""What each command of DiskShadow does, by its request: the one table, and its look-up."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.commands import (
    adding,
    backup,
    breaking,
    creating,
    deleting,
    exposing,
    leaving,
    listing,
    running,
    settings,
    transporting,
)
from vssemu.tools.diskshadow.session import Session

DOING: Final[Mapping[type[requests.Request], Callable[[Session, Any], None]]] = MappingProxyType(
    {
        requests.ShowSettings: settings.show,
        requests.SetContext: settings.set_context,
        requests.SetOption: settings.set_option,
        requests.SetMetadata: settings.set_metadata,
        requests.SetVerbose: settings.set_verbose,
        requests.ShowSet: adding.show,
        requests.AddVolume: adding.add_volume,
        requests.AddAlias: adding.add_alias,
        requests.WriterRule: adding.add_rule,
        requests.BeginBackup: backup.begin,
        requests.EndBackup: backup.end,
        requests.Create: creating.create,
        requests.LoadMetadata: transporting.load,
        requests.Import: transporting.import_set,
        requests.ListShadows: listing.list_shadows,
        requests.ListWriters: listing.list_writers,
        requests.ListProviders: listing.list_providers,
        requests.DeleteShadows: deleting.delete,
        requests.Expose: exposing.expose,
        requests.Unexpose: exposing.unexpose,
        requests.Break: breaking.break_set,
        requests.Mask: breaking.mask,
        requests.Reset: leaving.reset,
        requests.Help: leaving.show_help,
        requests.Exit: leaving.leave,
        requests.Exec: running.run,
    }
)


def do(session: Session, request: requests.Request) -> None:
    """Do what a request asks for. Raises Misused, Failed, Leave."""
    DOING[type(request)](session, request)
