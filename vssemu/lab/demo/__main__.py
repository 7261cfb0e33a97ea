"""Run the demo: `make demo`, or `python -m vssemu.lab.demo`, as root."""

import sys
from contextlib import ExitStack

from vssemu.lab.demo import breaking, stage, transport
from vssemu.lab.demo.report import Report
from vssemu.linux.run import ProgramFailed
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import VssError

NAME = "demo"


def main() -> int:
    """Run both flows; return the exit status."""
    if sys.argv[1:]:
        print(f"{__doc__}\nIt takes no arguments.", file=sys.stderr)  # noqa: T201
        return 0 if {"-h", "--help"} & {*sys.argv[1:]} else 2
    if not stage.is_root():
        print("the demo needs root: sudo make demo", file=sys.stderr)  # noqa: T201
        return 1
    report = Report()
    try:
        stage.require_programs("restic")
        with ExitStack() as stack:
            with report.step("", "a lab: three hosts and a storage array") as line:
                scene = stack.enter_context(stage.stage(NAME))
                line.say(", ".join(stage.HOSTS))
            transport.run(scene, report)
            breaking.run(scene, report)
            with report.step("", "the lab is taken down") as line:
                stack.close()
                left = stage.leftovers(NAME)
                line.say("; ".join(left) or "nothing is left")
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


if __name__ == "__main__":
    sys.exit(main())
