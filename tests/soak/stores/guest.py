"""A guest with a kernel of Debian's, whose dm-snapshot target is the judge of our stores.

The kernel and a static busybox are downloaded by apt into a cache directory, not installed;
dmsetup is the machine's own. QEMU emulates (TCG), so that this runs where nothing is
virtualised. A guest has two disks, origin and store, runs one script and ends.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from vssemu.linux.run import ProgramFailed, run

CACHE = Path(os.environ.get("VSSEMU_CACHE", str(Path.home() / ".cache" / "vssemu")))
LIMIT = 100.0
"""Seconds; a guest boots in 3 to 10."""

META_PACKAGE = "linux-image-cloud-amd64"
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("virtio_blk", "dm-mod", "dm-bufio", "dm-snapshot"),
)
"""In the order in which they need each other; one that is built in has no file."""

_INIT = """\
#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
cd /modules && for each in *; do insmod "$each" || echo "FAILED insmod $each"; done; cd /
dm() {{ dmsetup --noudevsync --noudevrules "$@" || echo "FAILED dmsetup $*"; }}
say() {{ echo "SAYS $1 $2"; }}
digest() {{ sha256sum < "$1" | cut -d ' ' -f 1; }}
{script}
sync
echo 'SAYS over yes'
poweroff -f
"""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What a guest is made of. libraries: of dmsetup."""

    image: Path
    modules: tuple[Path, ...]
    busybox: Path
    dmsetup: Path
    libraries: tuple[Path, ...]


def kernel() -> Kernel:
    """Return the parts of a guest, downloaded when they are not there; skip without them."""
    for program in ("qemu-system-x86_64", "dmsetup", "apt-get", "dpkg-deb"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"{program} is not installed (apt-get install qemu-system-x86 dmsetup)")
    try:
        tree = _tree()
        facts = run(["ldd", "/usr/sbin/dmsetup"], timeout=10)
    except (OSError, LookupError) as error:
        pytest.skip(f"no kernel of Debian's can be had: {error}")
    return Kernel(
        image=next((tree / "boot").glob("vmlinuz-*")),
        modules=tuple(
            found for name in MODULES for found in (tree / "lib/modules").rglob(f"{name}.ko")
        ),
        busybox=tree / "bin/busybox",
        dmsetup=Path("/usr/sbin/dmsetup"),
        libraries=tuple(Path(path) for path in re.findall(r"(/\S+) \(0x", facts.stdout)),
    )


def _tree() -> Path:
    """Return a directory with the packages' files. Raises OSError, LookupError."""
    shown = run(["apt-cache", "depends", META_PACKAGE], timeout=60)
    named = re.search(r"Depends: (linux-image-\S+)", shown.stdout)
    if named is None:
        raise LookupError(f"apt knows no package {META_PACKAGE}")
    tree = CACHE / named[1]
    if not tree.exists():
        unfinished = tree.with_name(f"{tree.name}.{os.getpid()}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            _unpack(unfinished, named[1], "busybox-static")
            unfinished.rename(tree)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return tree


def _unpack(directory: Path, *packages: str) -> None:
    shell = f'cd "{directory}" && apt-get -q download {" ".join(packages)}'
    run(["sh", "-c", shell], timeout=300)
    for package in directory.glob("*.deb"):
        run(["dpkg-deb", "--extract", str(package), str(directory)], timeout=120)
        package.unlink()


def boot(parts: Kernel, directory: Path, script: str, origin: Path, store: Path) -> dict[str, str]:
    """Run a script in a guest and return what it `say`s, by name.

    origin, store: files, /dev/vda and /dev/vdb in the guest, which writes to them.
    """
    ramdisk = directory / "initramfs"
    ramdisk.write_bytes(_ramdisk(parts, _INIT.format(script=script)))
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "384", "-smp", "1"]
    command += ["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
    command += ["-kernel", str(parts.image), "-initrd", str(ramdisk)]
    command += ["-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off"]
    for number, disk in enumerate((origin, store)):
        command += ["-drive", f"if=none,id=disk{number},file={disk},format=raw"]
        command += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    try:
        console = run(command, timeout=LIMIT).stdout
    except ProgramFailed as failed:
        pytest.fail(f"{failed}\n{failed.stdout}")
    said = dict(re.findall(r"^SAYS (\S+) (.*?)\r?$", console, re.M))
    assert "FAILED" not in console, console
    assert said.pop("over", None) == "yes", console
    return said


def _ramdisk(parts: Kernel, init: str) -> bytes:
    """Return an archive (cpio, newc) of a file system that a kernel can start from."""
    files: dict[str, bytes] = {"init": init.encode(), "bin/busybox": parts.busybox.read_bytes()}
    for number, module in enumerate(parts.modules):
        files[f"modules/{number:02}-{module.name}"] = module.read_bytes()
    for library in (*parts.libraries, parts.dmsetup):
        files[str(library).removeprefix("/")] = library.read_bytes()
    applets = "sh mount insmod echo sha256sum cut sync poweroff dd cat seq sleep"
    links = {f"bin/{name}": "/bin/busybox" for name in applets.split()}
    return b"".join(_archived(files, links))


def _archived(files: Mapping[str, bytes], links: Mapping[str, str]) -> Iterator[bytes]:
    names = {str(parent) for name in (*files, *links) for parent in Path(name).parents}
    directories = sorted((names | {"dev", "proc", "sys"}) - {"."})
    entries = [(name, 0o040755, b"") for name in directories]
    entries += [(name, 0o100755, data) for name, data in files.items()]
    entries += [(name, 0o120777, target.encode()) for name, target in links.items()]
    entries.append(("TRAILER!!!", 0, b""))
    for inode, (name, mode, data) in enumerate(entries, start=1):
        numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers)
        yield _padded(head + name.encode() + b"\0")
        yield _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
