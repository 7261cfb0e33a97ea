"""Telling a starter that this process serves."""

import os

import pytest

from vssemu.linux.readiness import tell_ready


def test_the_starter_reads_ready_and_then_the_end() -> None:
    reader, writer = os.pipe()
    tell_ready(writer)
    with os.fdopen(reader, "rb") as said:
        assert said.read() == b"READY\n"


def test_a_starter_that_has_given_up_is_no_error_and_the_descriptor_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    tell_ready(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)


def test_nobody_asked() -> None:
    tell_ready(None)
