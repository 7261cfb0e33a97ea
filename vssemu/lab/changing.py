"""Hosts and volumes that come to, or leave, a lab that runs."""

import shutil
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace

from vssemu.api import array as array_api
from vssemu.lab import cleanup, config, hosts, supervisor, volumes
from vssemu.lab.config import LabConfig, VolumeSpec
from vssemu.lab.growth import Growth, grown, settled
from vssemu.lab.known import Known
from vssemu.lab.starting import Starting
from vssemu.lab.waiting import until
from vssemu.linux import cgroup
from vssemu.rpc import client as rpc
from vssemu.vss.array import ArrayLun
from vssemu.vss.errors import BadState, ObjectNotFound, VolumeInUse
from vssemu.vss.identity import Initiator

STOP_SECONDS = 40.0
"""How long the orderly end of a host may take before it is killed."""


class Changing:
    """One change of a running lab. The lab's record changes last."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.paths = known.paths

    def add(self, added: Growth) -> None:
        """Add hosts, then volumes: all, or none. Raises VssError."""
        now = settled(self.known.config())
        wanted = grown(now, added)
        with ExitStack() as undo:
            for host in added.hosts:
                # What an attempt that was killed left is in the way.
                self._expel(host)
                undo.callback(self._expel, host)
                Starting(self.known).new_host(wanted, host)
            for shared in volumes.luns_of(replace(wanted, volumes=added.volumes)):
                # A pool that was kept may have them, with data.
                if not volumes.are_made(self.known, shared):
                    undo.callback(volumes.take_away, self.known, shared)
                volumes.provide(self.known, replace(wanted, volumes=shared))
            self._record(wanted)
            undo.pop_all()

    def remove_host(self, host: str) -> None:
        """Switch a host off in order and take it out of the lab.

        Raises BadState for the last host, VolumeInUse for one that LUNs are unmasked to.
        """
        now = settled(self.known.config())
        if now.hosts == (host,):
            raise BadState(
                f"{host} is the last host of lab {now.name}",
                hint=f"vssemu lab down --name {now.name}",
                item=host,
            )
        with self.known.array() as array:
            mine = _luns_of(array, host)
        if mine:
            copies = sum(lun.origin is not None for lun in mine)
            raise VolumeInUse(
                f"{len(mine)} LUNs are unmasked to {host}, {copies} of them of shadow copies",
                hint="delete its shadow copies, remove its volumes (vssemu lab remove volume) "
                "and mask other LUNs from it",
                item=host,
            )
        control, name = self.paths.supervisor_socket, hosts.host_name(host)
        supervisor.request(control, {"op": "stop", "name": name})
        until(lambda: not supervisor.services(control)[name]["pid"], seconds=STOP_SECONDS)
        self._record(replace(now, hosts=tuple(each for each in now.hosts if each != host)))
        self._expel(host)

    def remove_volumes(self, host: str, letters: Collection[str]) -> None:
        """Take volumes from their host, and delete their LUNs with all that is on them.

        Raises ObjectNotFound, VolumeInUse while shadow copies stand on one or files are open,
        BadState for a volume that shares its LUN with one that is not named.
        """
        now = settled(self.known.config())
        going = [find_volume(now, host, letter) for letter in letters]
        luns = [shared for shared in volumes.luns_of(now) if any(v in going for v in shared)]
        for stays in (v for shared in luns for v in shared if v not in going):
            raise BadState(
                f"volume {stays.letter}: of {host} shares the LUN and would go too",
                hint="name all volumes of the LUN",
                item=f"{stays.letter}:",
            )
        for shared in luns:
            volumes.take_out(self.known, shared)
            now = replace(now, volumes=tuple(v for v in now.volumes if v not in shared))
            self._record(now)

    def _record(self, wanted: LabConfig) -> None:
        partial = self.paths.config.with_suffix(".new")
        partial.write_bytes(config.encode(wanted))
        partial.replace(self.paths.config)

    def _expel(self, host: str) -> None:
        """Take away all there is of a host, whatever state it is in."""
        control = self.paths.supervisor_socket
        names = [hosts.host_name(host), hosts.guard_name(host)]
        running = supervisor.services(control)
        for name in names:
            if name in running:
                supervisor.request(control, {"op": "kill", "name": name})
        group = self.known.group() / host
        cleanup.end_processes(group, self.known.backing_names())
        until(
            lambda: not any(supervisor.services(control).get(n, {}).get("pid") for n in names),
            seconds=STOP_SECONDS,
        )
        for name in names:
            if name in running:
                supervisor.request(control, {"op": "remove", "name": name})
        cgroup.remove(group)
        self.paths.host_pid(host).unlink(missing_ok=True)
        cleanup.remove_mounts_below(self.paths.host_state(host))
        shutil.rmtree(self.paths.host_state(host), ignore_errors=True)
        with self.known.array() as array:
            # A pool that was kept may have LUNs for a host of this name: they stay its.
            if not _luns_of(array, host):
                array.call(array_api.remove_initiator, Initiator(host))
                shutil.rmtree(self.paths.host_outside(host), ignore_errors=True)


def _luns_of(array: rpc.Client, host: str) -> list[ArrayLun]:
    found: list[ArrayLun] = array.call(array_api.inventory)
    return [lun for lun in found if Initiator(host) in lun.masked_to]


def find_volume(now: LabConfig, host: str, letter: str) -> VolumeSpec:
    """Return a volume of a lab. Raises ObjectNotFound."""
    for volume in now.volumes:
        if (volume.host, volume.letter) == (host, letter):
            return volume
    there = ", ".join(f"{v.letter}:@{v.host}" for v in now.volumes) or "none"
    raise ObjectNotFound(
        f"lab {now.name} has no volume {letter}: of {host}",
        hint=f"volumes: {there}",
        item=f"{letter}:@{host}",
    )
