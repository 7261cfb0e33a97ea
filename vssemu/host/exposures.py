"""Exposing copies at drive letters and folders, and keeping that over restarts."""

from functools import partial

import structlog
import trio

from vssemu.host import mounting
from vssemu.host.border import vss_error
from vssemu.host.catalog import Catalog
from vssemu.host.names import AccessPath, access_path
from vssemu.host.paths import HostPaths
from vssemu.host.surfaced import SurfacedCopy
from vssemu.vss.errors import ObjectAlreadyExists, ObjectNotFound, VssError

_log = structlog.get_logger(__name__)


class Exposures:
    """Where copies are exposed. Called under the agent's lock."""

    def __init__(self, catalog: Catalog, paths: HostPaths) -> None:
        self._catalog = catalog
        self._paths = paths

    async def expose(self, copy: SurfacedCopy, place: AccessPath, *, is_taken: bool) -> str:
        """Mount a copy read-only at a letter or an empty folder; return its name.

        is_taken: a volume of this host has the place.
        Raises ObjectAlreadyExists when the copy is exposed or the place is taken,
        InvalidArgument for a folder that will not do, OSError.
        """
        exposed = self._catalog.exposures()
        item = str(copy.row.snapshot_id)
        if copy.row.snapshot_id in exposed:
            where = exposed[copy.row.snapshot_id]
            fact = f"shadow copy {{{item}}} is exposed at {where}"
            raise ObjectAlreadyExists(fact, hint="unexpose it first", item=item)
        if is_taken or place.name in exposed.values():
            fact = f"{place.name} belongs to another volume or copy"
            raise ObjectAlreadyExists(fact, hint="choose another place", item=place.name)
        self._catalog.put_exposure(copy.row.snapshot_id, place.name)
        try:
            mounted = partial(mounting.mount_copy, copy.device, copy.kind, place)
            await trio.to_thread.run_sync(mounted)
        except BaseException:
            self._catalog.remove_exposure(copy.row.snapshot_id)
            raise
        copy.place = place
        return place.name

    async def unexpose(self, copy: SurfacedCopy) -> None:
        """Undo `expose`. Raises ObjectNotFound when it is not exposed."""
        name = self._catalog.exposures().get(copy.row.snapshot_id)
        if name is None:
            item = str(copy.row.snapshot_id)
            raise ObjectNotFound(f"shadow copy {{{item}}} is not exposed", item=item)
        place = access_path(name, self._paths.mnt)
        number = mounting.number_of(copy.device)
        await trio.to_thread.run_sync(partial(mounting.unmount, number, place, lazily=True))
        self._catalog.remove_exposure(copy.row.snapshot_id)
        copy.place = None

    async def remake(self, copy: SurfacedCopy) -> None:
        """Mount a copy again where the catalog says that it is exposed."""
        name = self._catalog.exposures().get(copy.row.snapshot_id)
        if name is None or copy.place is not None:
            return
        place = access_path(name, self._paths.mnt)
        mounted = partial(mounting.mount_copy, copy.device, copy.kind, place)
        try:
            await trio.to_thread.run_sync(mounted)
            copy.place = place
        except (OSError, VssError) as error:
            reason = str(vss_error(error, f"expose at {name}"))
            _log.error("copy not exposed again", number=copy.row.number, reason=reason)
