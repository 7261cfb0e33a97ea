import os
import socket
from pathlib import Path
from typing import Any

import pytest

from vssemu.linux.credentials import peer_credentials


def connected(path: Path) -> Any:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    server, _ = listener.accept()
    listener.close()
    return client, server


def test_the_peer_is_this_process(tmp_path: Path) -> None:
    client, server = connected(tmp_path / "s")
    with client, server:
        for end in (client, server):
            seen = peer_credentials(end)
            assert (seen.pid, seen.uid, seen.gid) == (os.getpid(), os.geteuid(), os.getegid())
            assert sorted(seen.groups) == sorted(os.getgroups())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can choose its groups")
@pytest.mark.parametrize("count", [0, 3, 64, 65, 5000])
def test_any_number_of_groups_is_told(tmp_path: Path, count: int) -> None:
    """This test will connect from a child that took an identity of its own."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    pid = os.fork()
    if pid == 0:
        try:
            client = socket.socket(socket.AF_UNIX)
            os.setgroups(range(1000, 1000 + count))
            os.setgid(65534)
            client.connect(str(tmp_path / "s"))
            client.recv(1)
        finally:
            os._exit(0)
    server, _ = listener.accept()
    with listener, server:
        seen = peer_credentials(server)
    os.waitpid(pid, 0)
    assert (seen.pid, seen.gid) == (pid, 65534)
    assert sorted(seen.groups) == list(range(1000, 1000 + count))


def test_a_socket_without_a_peer_is_refused() -> None:
    with socket.socket(socket.AF_UNIX) as alone, pytest.raises(OSError, match="not connected"):
        peer_credentials(alone)


def test_a_socket_of_another_family_is_refused() -> None:
    with socket.socket() as inet, pytest.raises(OSError, match="Protocol not available"):
        peer_credentials(inet)
