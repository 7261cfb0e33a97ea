"""io.vssemu.DeviceObjects: what devicefs needs to know, and to ask for. Root only.

The implementer's side of the contract:

- `watch` sends the full list at once and after each change; a list that nobody took yet may
  be replaced by a newer one. It ends only with the service.
- `surface` opens the bare directory itself, `open(path, O_PATH | O_DIRECTORY)`, and calls
  fstat on it: a look-up made by a thread of `server_pid` is answered at once, whoever else
  waits for that name. A descriptor that is not in devicefs's own mount means that the tree is
  there: return. Otherwise the tree is attached through the descriptor (move_mount), never
  through a path, and the descriptor stays open until then. To open and fstat it before, when
  a list has settled, and keep it, is better still: then no first walk is done twice.
- devicefs may ask for a tree before it has taken the list of a service that has just started.
  That service walks into devicefs only when a list of its own has settled: until then its
  threads are walkers like all others, and would wait for themselves.
- devicefs holds the device of each copy in the list open, so that a service that was killed
  finds it bound, and its number is nobody else's meanwhile.
- A copy is taken out of the list first. When that list has settled its names are gone for
  new walks, devicefs has closed its device, and nothing will be mounted any more. The tree
  that is mounted is the service's to unmount, `umount2(path, MNT_DETACH)`: the kernel
  remembers the way into it. ENOENT and EINVAL say that it is unmounted already.
- A thread of `server_pid` never causes surfacing by walking: it finds the bare directory.
"""

from dataclasses import dataclass

from vssemu.rpc.interface import Declared, Interface

device_objects = Interface(
    "io.vssemu.DeviceObjects",
    """
    The shadow copies that have device objects, for the file system that shows them.
    """,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceObject:
    """One shadow copy as its four names show it.

    number: the N of HarddiskVolumeShadowCopyN, from 1. size: bytes of the raw device.
    raw_major, raw_minor: the read-only block device; with another one, or another size, a
    number stands for another copy. properties: VSS_SNAPSHOT_PROP, the text of a JSON object.
    """

    number: int
    size: int
    raw_major: int
    raw_minor: int
    properties: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyList:
    """All copies that have names now.

    revision: names this list in `settled`; never used again, by a later process neither (the
    clock in nanoseconds is a good start). server_pid: the process whose threads attach the
    trees, as numbered in the pid namespace that devicefs shares with it.
    """

    revision: int
    server_pid: int
    copies: list[DeviceObject]


@device_objects.method(more=True)
def watch() -> CopyList:
    """Send the list now and after each change."""
    raise Declared


@device_objects.method()
def surface(number: int) -> None:
    """Reply when the tree of a copy is mounted on its directory, or fail with the reason."""
    raise Declared


@device_objects.method()
def settled(revision: int) -> None:
    """Take note that a list is in force: removed copies have no names, and no descriptors."""
    raise Declared
