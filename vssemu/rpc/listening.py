"""Listening unix sockets: made at a path, or inherited by socket activation.

Source: unix(7); sd_listen_fds(3).
"""

import errno
import os
import secrets
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path

_FIRST_INHERITED = 3
_BACKLOG = 128
_LONGEST_ADDRESS = 107


def listen_unix(path: str | Path, *, mode: int = 0o666) -> socket.socket:
    """Return a socket that listens at a path, in place of a dead one that was there.

    The socket has its mode before it has its name, and takes the name in one step, so
    nobody ever meets it half made. Raises OSError with the path as filename: EADDRINUSE when
    somebody listens there, EEXIST when something else than a socket is there, ENAMETOOLONG.
    """
    path = Path(path)
    if len(os.fsencode(path)) > _LONGEST_ADDRESS:
        text = f"a socket's path has at most {_LONGEST_ADDRESS} bytes"
        raise OSError(errno.ENAMETOOLONG, text, str(path))
    _refuse_unless_dead(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(temporary))
        temporary.chmod(mode)
        sock.listen(_BACKLOG)
        temporary.rename(path)
    except OSError as error:
        sock.close()
        temporary.unlink(missing_ok=True)
        # An address that Python finds too long has no errno.
        number, text = error.errno or errno.ENAMETOOLONG, error.strerror or str(error)
        raise OSError(number, text, str(path)) from error
    return sock


def _refuse_unless_dead(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(errno.EEXIST, "something that is no socket is in the way", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A live service whose backlog is full would block us for good.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:
            pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
    raise OSError(errno.EADDRINUSE, "a service is listening there already", str(path))


def remove_name(path: str | Path, identity: tuple[int, int]) -> None:
    """Unlink the socket file at a path if it still is the one of that device and inode."""
    path = Path(path)
    try:
        if identity_of(path) == identity:
            path.unlink()
    except FileNotFoundError:
        pass


def identity_of(path: str | Path) -> tuple[int, int]:
    """Return device and inode number of a file. Raises OSError."""
    status = Path(path).lstat()
    return status.st_dev, status.st_ino


def listen_fds(environment: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that the starter of this process passed, none if none.

    They are made close-on-exec, and the variables are removed so that no child takes them for
    its own. Raises ValueError when the variables make no sense, OSError when a descriptor is
    no socket.
    """
    pid = environment.pop("LISTEN_PID", None)
    count = environment.pop("LISTEN_FDS", None)
    environment.pop("LISTEN_FDNAMES", None)
    if pid is None or count is None or int(pid) != os.getpid():
        return []
    sockets = []
    for descriptor in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count)):
        os.set_inheritable(descriptor, False)
        sockets.append(socket.socket(fileno=descriptor))
    return sockets
