"""What lunfs takes to be there again after a kill: hardly more than its imports."""

import json
import subprocess
import sys

from vssemu import logs

HEAVY = ("asyncio", "importlib.metadata", "numpy", "pyfuse3", "rich", "ssl", "structlog")


def test_lunfs_imports_nothing_heavy_that_it_can_do_without() -> None:
    """Each takes as long as a good part of all the rest. trio wants ssl."""
    script = f"import vssemu_fuse.lunfs.__main__, sys; print(*(sys.modules.keys() & {HEAVY!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["ssl"]


def test_lines_of_json_are_written_without_structlog() -> None:
    script = (
        "from vssemu import logs; import sys\n"
        f"log = logs.get_logger({logs.__name__!r}); logs.write_lines()\n"
        "log.debug('unseen'); log.info('event', path=sys.__class__, number=1)\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: log.exception('failed')\n"
        "log.error('told', exc_info=ValueError('why'))\n"
        "assert 'structlog' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    first, second, third = map(json.loads, done.stderr.splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "event",
        "level": "info",
        "number": 1,
        "path": "<class 'module'>",
    }
    assert "ZeroDivisionError: division by zero" in second["exception"]
    assert (third["level"], third["exception"]) == ("error", "ValueError: why")
