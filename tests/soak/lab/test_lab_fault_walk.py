"""The product of calls and faults: every call of a provider, every event of a writer."""

from collections.abc import Iterator

import pytest

from tests.rig.lab import faultwalk
from tests.rig.lab.conftest import Labs
from tests.rig.lab.faultrig import FaultyWriterProgram, faulty_writer, registered
from tests.rig.lab.faultwalk import PROVIDER_WALK, WRITER_WALK, ProviderCase, WriterCase
from tests.rig.lab.labrig import ONE, TWO, Rig, fill
from tests.rig.lab.witness import Witness, attending


def title(case: ProviderCase | WriterCase) -> str:
    return case.id


@pytest.fixture(scope="module")
def rig(labs: Labs) -> Iterator[Rig]:
    """A lab with the faulty provider on both hosts."""
    made = labs.new()
    try:
        made.up("F:=96M")
        fill(made.path(ONE, "/mnt/F/data"), files=8)
        with registered(made, ONE, TWO):
            yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def witness(rig: Rig) -> Iterator[Witness]:
    """A writer beside that behaves."""
    writer = Witness()
    with attending(rig, ONE, writer):
        yield writer


@pytest.fixture(scope="module")
def program(rig: Rig) -> Iterator[FaultyWriterProgram]:
    with faulty_writer(rig) as running:
        yield running


@pytest.mark.parametrize("case", PROVIDER_WALK, ids=title)
def test_every_fault_of_a_provider(rig: Rig, witness: Witness, case: ProviderCase) -> None:
    faultwalk.walk(rig, witness, case)


@pytest.mark.parametrize("case", WRITER_WALK, ids=title)
def test_every_fault_of_a_writer(
    rig: Rig, witness: Witness, program: FaultyWriterProgram, case: WriterCase
) -> None:
    program.ensure()
    faultwalk.walk_writer(rig, witness, case)
