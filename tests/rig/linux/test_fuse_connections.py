"""FUSE connections from outside: found at whoever holds the mount, ended by force."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from vssemu.linux import fuse, fuse_connections, mount


@pytest.fixture
def served_by_nobody() -> Iterator[int]:
    """A mounted connection whose requests nobody answers; the mount's descriptor."""
    connection = fuse.open_connection()
    options = {"fd": str(connection), "rootmode": "40000", "user_id": "0", "group_id": "0"}
    mounted = mount.detached_mount("fuse", "nobody", options, read_only=False)
    yield mounted
    os.close(mounted)
    os.close(connection)


def test_a_process_that_waits_for_nobody_ends_once_the_connection_is_cut(
    served_by_nobody: int,
) -> None:
    (connection,) = fuse_connections.detached(os.getpid())
    waiting = os.fork()
    if waiting == 0:
        try:
            os.stat("name", dir_fd=served_by_nobody)
        finally:
            os._exit(7)
    ended = os.pidfd_open(waiting)
    assert not select.select([ended], [], [], 0.2)[0], "it waits for an answer"
    fuse_connections.abort(connection)
    assert select.select([ended], [], [], 10)[0]
    os.close(ended)
    assert os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1]) == 7


def test_a_mount_that_a_process_sees_is_not_its_own(served_by_nobody: int, scratch: Path) -> None:
    """It may be the machine's: what lies below it must not be cut off."""
    assert len(fuse_connections.detached(os.getpid())) == 1
    assert fuse_connections.detached(os.getppid()) == set()
    directory = os.open(scratch, os.O_PATH)
    mount.attach(served_by_nobody, directory)
    os.close(directory)
    assert fuse_connections.detached(os.getpid()) == set()


def test_a_connection_that_is_gone_needs_no_end() -> None:
    fuse_connections.abort((1 << 20) - 1)
    assert fuse_connections.detached(os.getpid()) == set()


def test_a_process_that_has_ended_and_was_not_reaped_has_none() -> None:
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    try:
        assert fuse_connections.detached(ended) == set()
    finally:
        os.waitpid(ended, 0)
