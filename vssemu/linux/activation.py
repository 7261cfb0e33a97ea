"""Becoming a program with an inherited listening socket: sd_listen_fds(3), from the starter.

    python -I -S activation.py STARTER DESCRIPTOR COMMAND...

Run as a program of its own, for only the process that becomes COMMAND can know its own pid,
and nothing of ours may run between fork and exec of a process with threads. Standard library
alone. The socket becomes descriptor 3; when the starter dies, COMMAND is killed, so that no
program is left that nobody can reach.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_FIRST = 3


def become(descriptor: int, command: list[str], starter: int) -> None:
    """Replace this process by the command. Raises OSError when it cannot be run.

    starter: the pid of the process that must live.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != starter:
        # It died before the line above could bind us to it.
        raise ProcessLookupError("the starter is gone")
    if descriptor == _FIRST:
        os.set_inheritable(_FIRST, True)
    else:
        os.dup2(descriptor, _FIRST, inheritable=True)
        os.close(descriptor)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    os.execvp(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[2]), sys.argv[3:], starter=int(sys.argv[1]))
