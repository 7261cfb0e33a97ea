"""Runs on a host: reads and unmounts what it is told, and says at once what came of it.

A line of standard input is a JSON list: ["read", path], ["unmount", path]. The answer is
{"errno": 0 or the error's number, "digest": of the bytes read, "seconds": what it took}.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

from vssemu.linux import mount


def obey(verb: str, path: str) -> str:
    """Do one thing; return the digest of what was read. Raises OSError."""
    if verb == "unmount":
        mount.unmount(path, mount.UnmountFlag.DETACH)
        return ""
    return hashlib.blake2b(Path(path).read_bytes()).hexdigest()


def main() -> None:
    """Obey until standard input ends."""
    for line in sys.stdin:
        number, digest, started = 0, "", time.monotonic()
        try:
            digest = obey(*json.loads(line))
        except OSError as error:
            number = error.errno or -1
        seconds = time.monotonic() - started
        print(json.dumps({"errno": number, "digest": digest, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
