"""The pytest plugin, as tests of a backup program use it: in processes of their own."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.labrig import ENGINE, ROOT, THREE, TWO, Rig, assert_nothing_left, eventually
from vssemu.conformance import labs as conformance
from vssemu.lab.paths import LABS

pytest_plugins = ["pytester"]

SLEEPER = """
import pathlib, pytest, time

@pytest.mark.parametrize("name", ["one", "two"])
def test_it_lasts(vss_lab, system_one, name):
    assert system_one.is_on()
    pathlib.Path(name).write_text(vss_lab.name)
    time.sleep(300)
"""

QUICK = (
    "-o",
    f"vss_lab_engine={ENGINE}",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:hypothesispytest",
    "-p",
    "no:trio",
)

ONE_HOST = ("-o", "vss_lab_hosts=systemOne", "-o", "vss_lab_volumes=")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory for tests, without what this run has set for its own."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for name in [each for each in os.environ if each.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)
    return pytester


@pytest.fixture
def names(labs: Labs) -> Iterator[list[str]]:
    """Names of labs that a suite had; nothing of them may be left."""
    had: list[str] = []
    yield had
    rigs = [Rig(name) for name in had]
    try:
        for rig in rigs:
            assert_nothing_left(rig)
    finally:
        for rig in rigs:
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
    result = suite.runpytest_subprocess(*QUICK, "-v", timeout=110)
    result.assert_outcomes(passed=8)
    names.append(suite.path.joinpath("name").read_text())


def test_nothing_is_left_of_a_session_that_is_interrupted(
    suite: pytest.Pytester, names: list[str]
) -> None:
    suite.makepyfile(SLEEPER)
    with session(suite, "-k", "one") as running:
        names += eventually_named(suite, "one")
        running.send_signal(signal.SIGINT)
        running.wait(60)
    assert names == [f"pytest-{running.pid}"]
    assert not (LABS / names[0]).exists(), "it is gone before the session is"


def test_workers_of_xdist_have_labs_of_their_own_and_killed_they_leave_nothing(
    suite: pytest.Pytester, names: list[str]
) -> None:
    suite.makepyfile(SLEEPER)
    with session(suite, "-n", "2"):
        names += eventually_named(suite, "one", "two")
        assert len(set(names)) == 2
        assert all((LABS / name).exists() for name in names)
        for name in names:  # the number in it is the worker's
            os.kill(int(name.split("-")[1]), signal.SIGKILL)
    eventually(lambda: not any((LABS / name).exists() for name in names), seconds=60)


@contextmanager
def session(suite: pytest.Pytester, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a suite during the block; what of its session lives then is killed."""
    command = [sys.executable, "-m", "pytest", *QUICK, *ONE_HOST, *arguments]
    with subprocess.Popen(
        command, cwd=suite.path, stdout=subprocess.DEVNULL, start_new_session=True
    ) as running:
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


def eventually_named(suite: pytest.Pytester, *files: str) -> list[str]:
    """Return the names of labs that sleeping tests have written, when all have."""
    found = [suite.path / file for file in files]
    eventually(lambda: all(each.exists() and each.read_text() for each in found), seconds=90)
    return [each.read_text() for each in found]


def test_a_lab_that_runs_is_used_and_left_as_it_is(lab: Rig, suite: pytest.Pytester) -> None:
    suite.makepyfile(
        f"""
        def test_it(vss_lab, system_two):
            assert vss_lab.name == "{lab.name}"
            assert [host.name for host in vss_lab.hosts][1:] == ["{TWO}", "{THREE}"]
            assert system_two.name == "{TWO}"
        """
    )
    suite.runpytest_inprocess(*QUICK, "--vss-lab", lab.name).assert_outcomes(passed=1)
    assert lab.lab.known.is_whole()
    missing = suite.runpytest_inprocess(*QUICK, "--vss-lab", "no-such-lab")
    missing.assert_outcomes(errors=1)
    missing.stdout.fnmatch_lines(["*VSS_E_OBJECT_NOT_FOUND*there is no lab no-such-lab*"])


def test_without_the_machine_for_it_tests_are_skipped_or_fail_if_a_lab_is_required(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "lacks", lambda: "no loop device can be had")
    suite.makepyfile("def test_it(system_one): pass\ndef test_other(vss_lab): pass\n")
    why = "*no lab can be had here: no loop device can be had*"
    skipped = suite.runpytest_inprocess(*QUICK, "-rs")
    skipped.assert_outcomes(skipped=2)
    skipped.stdout.fnmatch_lines([why])
    required = suite.runpytest_inprocess(*QUICK, "--vss-lab-required")
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
    suite.runpytest_subprocess(*QUICK, timeout=60).assert_outcomes(passed=1)
