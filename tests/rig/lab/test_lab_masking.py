"""As root inside systemTwo: nothing there reaches a LUN that is masked from it.

Each attempt is a program that runs in the host as `lab exec` gives it: root, with all the
rights that a host has.
"""

import json
import sys
from pathlib import Path

import msgspec
import pytest

from tests.rig.lab.labrig import ONE, TWO, Rig, create, import_set
from vssemu.api import array as api
from vssemu.linux import loop
from vssemu.vss.array import ArrayLun, LunState


def python(lab: Rig, script: str, *arguments: str) -> str:
    return lab.run(TWO, sys.executable, "-c", script, *arguments)


def loops_of(lab: Rig) -> list[int]:
    """Return the numbers of the loop devices over LUNs of the lab."""
    ids = lab.lun_ids()
    return [b.number for b in loop.bound_loops() if any(i in b.backing_file for i in ids)]


def test_the_host_has_no_node_of_a_masked_lun_and_can_make_none(lab: Rig) -> None:
    foreign = loops_of(lab)
    assert foreign, "systemOne has its volumes bound"
    script = """
import errno, os, stat, sys
for name in os.listdir('/dev'):
    assert not stat.S_ISBLK(os.lstat('/dev/' + name).st_mode), name
for minor in sys.argv[1:]:
    for where in ('/dev', '/tmp', '/run', '/mnt'):
        try:
            os.mknod(f'{where}/forged-{minor}', 0o600 | stat.S_IFBLK, os.makedev(7, int(minor)))
        except PermissionError as error:
            assert error.errno == errno.EPERM
        else:
            raise SystemExit(f'{where} took a node')
"""
    python(lab, script, *map(str, foreign))


def test_a_devtmpfs_or_another_tree_of_nodes_gives_nothing_that_opens(lab: Rig) -> None:
    foreign = loops_of(lab)
    script = """
import os, subprocess, sys
os.makedirs('/mnt/nodes', exist_ok=True)
mounted = subprocess.run(['mount', '-t', 'devtmpfs', 'none', '/mnt/nodes']).returncode == 0
tried = 0
try:
    for minor in sys.argv[1:]:
        for base in ('/mnt/nodes', '/dev', '/sys/dev/block'):
            path = f'{base}/loop{minor}'
            if os.path.exists(path):
                tried += 1
                for flags in (os.O_RDONLY, os.O_RDWR):
                    try:
                        os.open(path, flags)
                    except OSError:
                        continue
                    raise SystemExit(f'{path} opens')
        # The kernel opens the device itself when asked to mount it.
        for kind in ('ext4', 'xfs'):
            asked = ['mount', '-r', '-t', kind, f'/mnt/nodes/loop{minor}', '/mnt']
            if subprocess.run(asked).returncode == 0:
                raise SystemExit('a masked LUN was mounted')
finally:
    if mounted:
        subprocess.run(['umount', '/mnt/nodes'], check=True)
    os.rmdir('/mnt/nodes')
print(mounted, tried)
"""
    mounted, tried = python(lab, script, *map(str, foreign)).split()
    assert mounted == "False" or int(tried) >= len(foreign)


def test_no_descriptor_in_the_hosts_proc_leads_to_a_lun_or_the_pool(lab: Rig) -> None:
    script = """
import os, stat
seen = 0
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        names = os.listdir(f'/proc/{pid}/fd')
    except OSError:
        continue
    for name in names:
        path = f'/proc/{pid}/fd/{name}'
        try:
            target, facts = os.readlink(path), os.stat(path)
        except OSError:
            continue
        seen += 1
        assert 'naa.' not in target and 'pool' not in target, (pid, target)
        assert not stat.S_ISBLK(facts.st_mode), (pid, target)
print(seen)
"""
    assert int(python(lab, script)) > 10


def test_init_cannot_be_traced_nor_its_descriptors_taken(lab: Rig) -> None:
    """PID 1 alone may make nodes; what it has, root of the host has not."""
    script = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_SEIZE, PIDFD_GETFD = 16, 0x4206, 438
for request in (PTRACE_ATTACH, PTRACE_SEIZE):
    assert libc.ptrace(request, 1, None, None) == -1
    assert ctypes.get_errno() == errno.EPERM, ctypes.get_errno()
pidfd = os.pidfd_open(1)
for number in range(20):
    assert libc.syscall(PIDFD_GETFD, pidfd, number, 0) == -1, number
    assert ctypes.get_errno() == errno.EPERM, ctypes.get_errno()
for name in ('mem', 'root', 'cwd', 'exe', *(f'fd/{number}' for number in range(20))):
    for attempt in (os.readlink, os.listdir, lambda path: open(path, 'rb')):
        try:
            attempt('/proc/1/' + name)
        except OSError:
            continue
        raise SystemExit(f'{name} of init opens')
"""
    python(lab, script)


def test_a_program_in_the_host_has_none_of_the_rights_that_make_or_reach_devices(
    lab: Rig,
) -> None:
    script = """
masks = dict(line.split() for line in open('/proc/self/status') if line.startswith('Cap'))
RAWIO, PTRACE, BOOT, MODULE, MKNOD = 17, 19, 22, 16, 27
for kind in ('CapBnd:', 'CapPrm:', 'CapEff:', 'CapInh:', 'CapAmb:'):
    for number in (RAWIO, PTRACE, BOOT, MODULE, MKNOD):
        assert not int(masks[kind], 16) >> number & 1, (kind, number)
"""
    python(lab, script)


def test_file_handles_cannot_be_opened(lab: Rig) -> None:
    """A handle of an image in the pool's file system would need no path to it."""
    script = """
import ctypes, errno, os, struct
libc = ctypes.CDLL(None, use_errno=True)
for place in ('/tmp', '/var/lib/vssemu', '/run', '/', '/etc'):
    fd = os.open(place, os.O_RDONLY)
    handle = ctypes.create_string_buffer(struct.pack('Ii', 120, 0) + bytes(120))
    mount_id = ctypes.c_int()
    libc.name_to_handle_at(fd, b'', handle, ctypes.byref(mount_id), 0x1000)
    ctypes.set_errno(0)
    assert libc.open_by_handle_at(fd, handle, os.O_RDONLY) == -1, place
    assert ctypes.get_errno() == errno.EPERM, (place, ctypes.get_errno())
"""
    python(lab, script)


def test_unmounting_what_a_host_sees_reveals_nothing_below(lab: Rig) -> None:
    """In a mount namespace of the attempt's own, so that the host stays whole."""
    script = f"""
set -u
test ! -e {lab.pool}
test ! -e /var/lib/vssemu/labs
for try in 1 2 3 4 5 6 7 8; do
    for place in $(awk '{{print $5}}' /proc/self/mountinfo | sort -r); do
        case "$place" in /|/proc|/usr|/lib*|/bin*|/sbin*) continue;; esac
        umount -l "$place" 2>/dev/null || true
    done
done
test ! -e {lab.pool} || exit 1
test ! -e /var/lib/vssemu/labs || exit 2
test -z "$(find / -xdev -name 'naa.*' -not -path '/proc/*' -print -quit 2>/dev/null)" || exit 3
test -z "$(find / -xdev -name pool.img -print -quit 2>/dev/null)" || exit 4
"""
    lab.run(TWO, "unshare", "--mount", "bash", "-c", script, cwd="/")


FORGE = """
import json, sys
from vssemu.api import array as api
from vssemu.api.errors import decode_error
from vssemu.rpc import client as rpc
import msgspec
from vssemu.vss.array import LunKind, View
from vssemu.vss.errors import VssError
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation

asked = json.loads(sys.argv[1])
set_id = msgspec.convert(asked['set'], SnapshotSetId)
lun, base = LunId(asked['copy']), LunId(asked['base'])
guess = msgspec.convert(asked['guess'], LunInformation)
guess_base = msgspec.convert(asked['guess_base'], LunInformation)
true_base = msgspec.convert(asked['true_base'], LunInformation)
calls = {
    'attach': (api.attach, lun, View.LUN, True),
    'attach to read': (api.attach, lun, View.LUN, False),
    'attach scratch': (api.attach, lun, View.SCRATCH, False),
    'attach base': (api.attach, base, View.LUN, False),
    'discard scratch': (api.discard_scratch, lun),
    'surface': (api.surface, [guess]),
    'surface base': (api.surface, [true_base]),
    'reclaim': (api.reclaim, guess),
    'reclaim base': (api.reclaim, guess_base),
    'reclaim true base': (api.reclaim, true_base),
    'share': (api.share, guess, Initiator('systemTwo')),
    'share base': (api.share, true_base, Initiator('systemTwo')),
    'set independent': (api.set_independent, [guess]),
    'set import failed': (api.set_import_failed, [guess]),
    'retract': (api.retract, [guess]),
    'retract base': (api.retract, [true_base]),
    'prepare': (api.prepare, set_id, [base], LunKind.DIFFERENTIAL),
    'finish prepare': (api.finish_prepare, set_id),
    'commit': (api.commit, set_id),
    'settle': (api.settle, set_id),
    'abort': (api.abort, set_id),
    'copies of': (api.copies_of, set_id, [base]),
    'flags': (api.lun_flags, lun),
    'flags of base': (api.lun_flags, base),
    'set flags': (api.set_lun_flags, lun, 1 << 60),
    'set flags of base': (api.set_lun_flags, base, 1 << 60),
}
answers = {}
for name, (method, *arguments) in calls.items():
    with rpc.connect('/run/vssemu/outside/array.sock', decode_error=decode_error) as array:
        try:
            if method.sends_descriptor:
                answers[name] = str(array.call_with_descriptor(method, *arguments)[0])
            else:
                answers[name] = str(array.call(method, *arguments))
        except VssError as error:
            answers[name] = error.hresult.name
with rpc.connect('/run/vssemu/outside/array.sock', decode_error=decode_error) as array:
    answers['luns'] = [one.id for one in array.call(api.luns)]
    answers['can copy'] = array.call(api.can_copy, [base], LunKind.DIFFERENTIAL)
print(json.dumps(answers))
"""

HARMLESS = {"retract", "retract base", "set import failed", "abort"}
"""Calls on LUNs that the caller has no business with may also do nothing."""


def test_forged_calls_to_the_array_are_refused_and_change_nothing(lab: Rig) -> None:
    """Ids leak through /sys; the caller guesses everything else, and knows the base's record."""
    with lab.backup(ONE) as creator:
        create(creator)
        document = creator.save_as_xml()
        (copy,) = [lun for lun in lab.inventory() if lun.set_id is not None]
        (base,) = [lun for lun in lab.inventory() if lun.id == copy.origin]
        before = {lun.id: (lun.state, lun.masked_to) for lun in lab.inventory()}
        answers = json.loads(python(lab, FORGE, _forged(copy, base)))
        assert answers.pop("luns") == []
        assert answers.pop("can copy") is False
        accepted = {n for n, answer in answers.items() if not answer.startswith(("VSS_E", "E_"))}
        assert accepted <= HARMLESS, {name: answers[name] for name in accepted}
        assert {lun.id: (lun.state, lun.masked_to) for lun in lab.inventory()} == before
        assert {method.function_name for method in api.initiator.methods.values()} == {
            *("luns", "can_copy", "prepare", "finish_prepare", "commit", "settle", "abort"),
            *("copies_of", "surface", "retract", "share", "set_independent", "attach"),
            *("set_import_failed", "reclaim", "discard_scratch", "lun_flags", "set_lun_flags"),
            # Nothing of any LUN: names, a loop device without a LUN, a prompt.
            *("initiator_names", "reserve_device", "watch"),
        }, "a method that this test does not try"
        with lab.backup(TWO) as importer:
            import_set(importer, document)
            (claimed,) = [lun for lun in lab.inventory() if lun.set_id is not None]
            assert claimed.state is LunState.CLAIMED


def _forged(copy: ArrayLun, base: ArrayLun) -> str:
    guess = msgspec.to_builtins(copy.information)
    guess["serial_number"] = "0" * 32
    true_base = msgspec.to_builtins(base.information)
    return json.dumps(
        {
            "copy": copy.id,
            "base": base.id,
            "set": str(copy.set_id),
            "guess": guess,
            "guess_base": {**true_base, "serial_number": "f" * 32},
            "true_base": true_base,
        }
    )


@pytest.mark.parametrize("path", ["array.sock", "../../array.sock", "supervisor.sock"])
def test_the_sockets_of_the_administrator_are_not_in_the_host(lab: Rig, path: str) -> None:
    outside = f"/run/vssemu/lab/{lab.name}/{path}"
    lab.run(TWO, "test", "!", "-e", outside)
    assert Path(f"/run/vssemu/lab/{lab.name}/array.sock").exists()
    found = lab.run(TWO, "find", "/run", "-xdev", "-name", "*.sock")
    inside = {line for line in found.split() if "/provider" not in line}
    assert inside <= {"/run/vssemu/vss.sock", "/run/vssemu/init.sock"}, inside


def test_init_of_the_host_makes_no_node_but_of_loop_devices_and_the_fence_holds(lab: Rig) -> None:
    """Root inside may ask init for a node of a foreign device; the device does not open."""
    (foreign, *_) = loops_of(lab)
    script = """
import json, os, socket, sys
minor = int(sys.argv[1])
def ask(**request):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect('/run/vssemu/init.sock')
        s.sendall(json.dumps(request).encode() + b'\\n')
        return json.loads(s.makefile().readline())
assert not ask(op='make_node', name='sda', minor=0)['ok']
assert not ask(op='make_node', name='../tmp/x', minor=0)['ok']
made = ask(op='make_node', name=f'loop{minor}', minor=minor)
if made['ok']:
    try:
        for flags in (os.O_RDONLY, os.O_RDWR):
            try:
                os.open(f'/dev/loop{minor}', flags)
            except PermissionError:
                continue
            raise SystemExit('the fence let it through')
    finally:
        ask(op='remove_node', name=f'loop{minor}', minor=minor)
"""
    python(lab, script, str(foreign))
