"""The pytest plugin, as tests of a backup program use it: in processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.labrig import ROOT, THREE, TWO, Rig, assert_nothing_left, eventually
from vssemu.lab.paths import LABS

pytest_plugins = ["pytester"]

SLEEPER = """
import pathlib, time

def test_it_lasts(vss_lab, system_one):
    pathlib.Path("name").write_text(vss_lab.name)
    time.sleep(300)
"""

ONE_HOST = ("-o", "vss_lab_hosts=systemOne", "-o", "vss_lab_volumes=")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory for tests, without what this run has set for its own."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for name in [each for each in os.environ if each.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)
    return pytester


def run(suite: pytest.Pytester, *arguments: str | Path, timeout: float = 100) -> pytest.RunResult:
    quick = (*("-p", "no:cacheprovider"), *("-p", "no:hypothesispytest"))
    return suite.runpytest_subprocess(*quick, *arguments, timeout=timeout)


@pytest.fixture
def names(labs: Labs) -> Iterator[list[str]]:
    """Names of labs that a suite had; nothing of them may be left."""
    had: list[str] = []
    yield had
    for name in had:
        rig = Rig(name)
        try:
            assert_nothing_left(rig)
        finally:
            rig.lab.down()


def test_the_suite_of_a_backup_developer(suite: pytest.Pytester, names: list[str]) -> None:
    """The example of the documentation, with further tests beside it, in one session."""
    suite.makepyfile(
        test_backup=(ROOT / "docs/examples/pytest_backup.py").read_text(),
        test_more="""
        import pathlib
        import pytest
        from vssemu.linux.run import ProgramFailed
        from vssemu.vss.errors import Fail
        from vssemu.writers.files import FilesWriter

        class NotMade(FilesWriter):
            def __init__(self, *_, **config):
                raise ValueError(config)

        def test_programs_run_on_the_hosts(vss_lab, system_two):
            pathlib.Path("name").write_text(vss_lab.name)
            assert system_two.run("hostname").stdout == "systemTwo\\n"
            assert system_two.run("cat", input="x").stdout == "x"
            done = system_two.run("sh", "-c", "echo $A; exit 3", env={"A": "a"}, check=False)
            assert (done.status, done.stdout) == (3, "a\\n")
            with pytest.raises(ProgramFailed, match="^sh -c 'echo bad >&2; false': .*: bad$"):
                system_two.run("sh", "-c", "echo bad >&2; false")

        def test_a_writer_that_cannot_run_says_why(system_one):
            with pytest.raises(Fail, match="ValueError: .*too bad"):
                system_one.start_writer(NotMade, {"what": "too bad"})

        def test_a_writer_ends_with_its_test(system_one):
            with system_one.connect() as vss, vss.backup_components() as backup:
                backup.initialize_for_backup()
                assert backup.gather_writer_metadata() == []

        def test_the_other_host_is_off(system_two):
            system_two.power_off()

        def test_a_host_that_a_test_left_off_is_on_again(vss_lab, system_two):
            assert system_two.is_on()
            assert vss_lab.host("systemTwo").volumes() == []
            assert len(vss_lab.hosts) == 2
        """,
    )
    result = run(suite, "-v", "-p", "no:trio")
    result.assert_outcomes(passed=8)
    names.append(suite.path.joinpath("name").read_text())


def test_every_worker_of_xdist_has_a_lab_of_its_own(
    suite: pytest.Pytester, names: list[str]
) -> None:
    suite.makepyfile(
        """
        import pathlib, pytest, time

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(vss_lab, system_one, number):
            pathlib.Path(f"name-{number}").write_text(vss_lab.name)
            deadline = time.monotonic() + 60
            while not pathlib.Path(f"name-{3 - number}").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert system_one.run("hostname").stdout == "systemOne\\n"
        """
    )
    run(suite, "-n", "2", *ONE_HOST).assert_outcomes(passed=2)
    names += [suite.path.joinpath(f"name-{number}").read_text() for number in (1, 2)]
    assert len(set(names)) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_session_that_is_ended(
    suite: pytest.Pytester, names: list[str], number: signal.Signals
) -> None:
    suite.makepyfile(SLEEPER)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *ONE_HOST],
        cwd=suite.path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as session:
        try:
            eventually((suite.path / "name").exists, seconds=60)
            os.killpg(session.pid, number)
            session.wait(60)
        finally:
            session.kill()
    names.append(f"pytest-{session.pid}")
    eventually(lambda: not (LABS / names[0]).exists(), seconds=30)


def test_a_lab_that_runs_is_used_and_left_as_it_is(lab: Rig, suite: pytest.Pytester) -> None:
    suite.makepyfile(
        f"""
        def test_it(vss_lab, system_two):
            assert vss_lab.name == "{lab.name}"
            assert [host.name for host in vss_lab.hosts][1:] == ["{TWO}", "{THREE}"]
            assert system_two.name == "{TWO}"
        """
    )
    run(suite, "--vss-lab", lab.name).assert_outcomes(passed=1)
    assert lab.lab.known.is_whole()
    missing = run(suite, "--vss-lab", "no-such-lab")
    missing.assert_outcomes(errors=1)
    missing.stdout.fnmatch_lines(["*VSS_E_OBJECT_NOT_FOUND*there is no lab no-such-lab*"])


def test_without_the_machine_for_it_tests_are_skipped_or_fail_if_a_lab_is_required(
    suite: pytest.Pytester,
) -> None:
    suite.makeconftest(
        "import vssemu.conformance.labs\n"
        "vssemu.conformance.labs.lacks = lambda: 'no loop device can be had'\n"
    )
    suite.makepyfile("def test_it(system_one): pass\ndef test_other(vss_lab): pass\n")
    why = "*no lab can be had here: no loop device can be had*"
    skipped = run(suite, "-rs")
    skipped.assert_outcomes(skipped=2)
    skipped.stdout.fnmatch_lines([why])
    required = run(suite, "--vss-lab-required")
    required.assert_outcomes(errors=2)
    required.stdout.fnmatch_lines([why])


def test_a_session_that_does_not_use_it_loads_nothing_of_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_it():
            ours = {each for each in sys.modules if each.partition(".")[0] == "vssemu"}
            assert ours == {"vssemu", "vssemu.conformance", "vssemu.conformance.plugin"}
        """
    )
    run(suite).assert_outcomes(passed=1)
