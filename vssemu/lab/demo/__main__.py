"""Run the demo: `make demo`, or `python -m vssemu.lab.demo`, as root."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from vssemu.lab.config import COW
from vssemu.lab.demo import breaking, stage, transport
from vssemu.lab.demo.report import Report
from vssemu.linux.run import ProgramFailed
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import VssError

NAME = "demo"
DIRECTORIES_ON_COW = 50


def main() -> int:
    """Run both flows on both engines; return the exit status."""
    if sys.argv[1:]:
        print(f"{__doc__}\nIt takes no arguments.", file=sys.stderr)  # noqa: T201
        return 0 if {"-h", "--help"} & {*sys.argv[1:]} else 2
    if not stage.is_root():
        print("the demo needs root: sudo make demo", file=sys.stderr)  # noqa: T201
        return 1
    report = Report()
    try:
        stage.require_programs("restic")
        left = _on_reflink(report) + _on_cow(report)
        report.fact("left on this machine", "; ".join(left) or "nothing")
    except (VssError, ProgramFailed, OSError, RpcError) as error:
        notes = getattr(error, "__notes__", [])
        print("\n".join([f"the demo failed: {error}", *notes]), file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the lab was taken down", file=sys.stderr)  # noqa: T201
        return 130
    report.summary()
    return 1 if left else 0


@contextmanager
def _lab(report: Report, engine: str, text: str, left: list[str]) -> Iterator[stage.Stage]:
    """Have a lab during the block; what is left of it afterwards is added to `left`."""
    with ExitStack() as stack:
        with report.step("", text) as line:
            scene = stack.enter_context(stage.stage(NAME, engine))
            line.say(", ".join(stage.HOSTS))
        yield scene
        with report.step("", "the lab is taken down") as line:
            stack.close()
            left += stage.leftovers(NAME)
            line.say("; ".join(left) or "nothing is left")


def _on_reflink(report: Report) -> list[str]:
    """Run both flows on the engine reflink; return what is left of the lab."""
    left: list[str] = []
    with _lab(report, "reflink", "a lab: three hosts and a storage array", left) as scene:
        transport.run(scene, report)
        breaking.run(scene, report)
    return left


def _on_cow(report: Report) -> list[str]:
    """Run both flows on the engine cow, with less data; return what is left of the lab."""
    left: list[str] = []
    report.heading("The same on the engine cow: old data in exception stores, behind lunfs")
    with _lab(report, COW, "a lab whose LUNs lunfs serves", left) as scene:
        inner = Report.quiet()
        with report.step("10", "the nine steps, lunfs being killed as restic begins") as line:
            transport.run(scene, inner, directories=DIRECTORIES_ON_COW)
            found = dict(inner.facts)
            held, stored = found[transport.HOLD], found[transport.STORE]
            line.say(f"writes held for {held}; {found[transport.RESTORED]}")
        report.note("the copy's exception store when it was imported", stored)
        with report.step("11", "breaking") as line:
            breaking.run(scene, inner)
            line.say("a file that systemTwo wrote is there on systemThree")
        report.fact("on cow: hold window", held)
        report.fact("on cow: exception store", stored)
    return left


if __name__ == "__main__":
    sys.exit(main())
