"""The write log: what was noted comes back, whatever cut it off, and makes the image again."""

import os
import resource
import signal
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.faults.replay import Replay, last_before
from vssemu.faults.writelog import (
    ENTRY_SIZE,
    HEADER_SIZE,
    EntryKind,
    LogHeader,
    LogReader,
    LogWriter,
)
from vssemu.vss.errors import InvalidArgument, ObjectNotFound
from vssemu.vss.identity import LunId

LUN = LunId("naa.6025653000000000000000000000000a")
SIZE = 1 << 20
BLOCK = 4096
BLOCKS = SIZE // BLOCK

Step = tuple[Any, ...]

writes = st.tuples(st.just("write"), st.integers(0, BLOCKS - 3), st.integers(1, 3), st.binary())
zeroes = st.tuples(st.just("zero"), st.integers(0, BLOCKS - 9), st.integers(1, 9))
flushes = st.tuples(st.just("flush"))
marks = st.tuples(st.just("mark"), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
steps = st.lists(st.one_of(writes, zeroes, flushes, marks), max_size=20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def filled(seed: bytes, blocks: int) -> bytes:
    return ((seed or b"\1") * (blocks * BLOCK))[: blocks * BLOCK]


def note(log: LogWriter, step: Step) -> tuple[int, bytes]:
    """Note a step; return how it changes an image, for the plain model."""
    match step:
        case ("write", block, blocks, seed):
            data = filled(seed, blocks)
            log.write(block * BLOCK, memoryview(data))
            return block * BLOCK, data
        case ("zero", block, blocks):
            log.zero(block * BLOCK, blocks * BLOCK)
            return block * BLOCK, bytes(blocks * BLOCK)
        case ("flush",):
            log.flush(log.last)
        case ("mark", name):
            log.mark(name)
    return 0, b""


def apply(image: bytearray, changes: list[tuple[int, bytes]]) -> bytearray:
    for offset, data in changes:
        image[offset : offset + len(data)] = data
    return image


@given(steps=steps, cut=st.integers(0, 1 << 16), stop=st.integers(0, 20))
def test_what_was_noted_comes_back_up_to_where_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], cut: int, stop: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    path, image = directory / "log", directory / "image"
    ends, changes = [HEADER_SIZE], []
    with LogWriter.create(path, LogHeader(lun=LUN, size=SIZE)) as log:
        for step in steps:
            changes.append(note(log, step))
            ends.append(path.stat().st_size)
    length = max(HEADER_SIZE, path.stat().st_size - cut)
    os.truncate(path, length)
    whole = sum(end <= length for end in ends) - 1

    with LogReader(path) as reader:
        entries = list(reader.entries())
        assert reader.header == LogHeader(lun=LUN, size=SIZE)
        assert reader.cut_off == (length - ends[whole] or None)
    assert [entry.kind.name.lower() for entry in entries] == [s[0] for s in steps[:whole]]
    assert [entry.number for entry in entries] == list(range(1, whole + 1))
    assert [e.name for e in entries if e.kind is EntryKind.MARK] == [
        s[1] for s in steps[:whole] if s[0] == "mark"
    ]

    upto = min(stop, whole)
    with Replay(path, image) as replay:
        replay.to(upto)
        assert image.read_bytes() == apply(bytearray(SIZE), changes[:upto])
        replay.to(whole)
        assert image.read_bytes() == apply(bytearray(SIZE), changes[:whole])


@given(steps=steps, more=steps, torn=st.integers(0, ENTRY_SIZE + BLOCK))
def test_a_killed_writer_is_succeeded(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], more: list[Step], torn: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    with LogWriter.create(path, LogHeader(lun=LUN, size=SIZE)) as log:
        for step in steps:
            note(log, step)
        end = path.stat().st_size
        log.write(0, memoryview(bytes(BLOCK)))
    os.truncate(path, min(end + torn, path.stat().st_size - 1))
    with LogWriter.resume(path, LUN) as log:
        assert log.last == len(steps)
        for step in more:
            note(log, step)
    with LogReader(path) as reader:
        kinds = [entry.kind.name.lower() for entry in reader.entries()]
        assert reader.cut_off is None
    assert kinds == [step[0] for step in steps + more]


def test_an_entry_has_the_place_the_time_and_the_sum(path: Path) -> None:
    data = memoryview(os.urandom(2 * BLOCK))
    with LogWriter.create(path, LogHeader(lun=LUN, size=SIZE)) as log:
        log.write(8192, data)
        log.zero(4096, 12288)
        log.flush(1)
    with LogReader(path) as reader:
        write, zero, flush = reader.entries()
        assert reader.data(write) == data
    assert (write.offset, write.length, write.checksum) == (8192, 8192, zlib.crc32(data))
    assert (zero.offset, zero.length, zero.carried) == (4096, 12288, 0)
    assert (flush.covers, write.covers) == (1, None)
    assert write.time <= zero.time <= flush.time


def test_damage_is_not_taken_for_an_end(path: Path, tmp_path: Path) -> None:
    with LogWriter.create(path, LogHeader(lun=LUN, size=SIZE)) as log:
        log.write(0, memoryview(bytes(BLOCK)))
        log.write(BLOCK, memoryview(bytes(BLOCK)))
    whole = bytearray(path.read_bytes())
    for place, said in (
        (HEADER_SIZE + 20, "there is no entry at byte"),
        (HEADER_SIZE + ENTRY_SIZE + 9, "the data of entry 1"),
        (3, "does not begin"),
    ):
        broken = bytearray(whole)
        broken[place] ^= 1
        path.write_bytes(broken)
        with pytest.raises(InvalidArgument, match=said), Replay(path, tmp_path / "i") as replay:
            replay.to(2)


def test_zeroes_of_a_block_that_was_never_written_are_an_end(path: Path) -> None:
    with LogWriter.create(path, LogHeader(lun=LUN, size=SIZE)) as log:
        log.zero(0, BLOCK)
    os.truncate(path, path.stat().st_size + 512)
    with LogReader(path) as reader:
        assert len(list(reader.entries())) == 1
        assert reader.cut_off == 512


def test_a_full_disk_leaves_a_whole_log(path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with LogWriter.create(path, LogHeader(lun=LUN, size=SIZE)) as log:
        log.zero(0, BLOCK)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                log.write(0, memoryview(bytes(SIZE)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        log.mark("after")
    with LogReader(path) as reader:
        assert [entry.name for entry in reader.entries()] == [None, "after"]
        assert reader.cut_off is None


def test_a_log_is_gone_on_with_for_its_own_lun_alone(path: Path) -> None:
    LogWriter.create(path, LogHeader(lun=LUN, size=SIZE)).close()
    with pytest.raises(FileExistsError):
        LogWriter.create(path, LogHeader(lun=LUN, size=SIZE))
    with pytest.raises(InvalidArgument, match=LUN):
        LogWriter.resume(path, LunId(LUN[:-1] + "b"))


def test_limits_of_a_replay(path: Path, tmp_path: Path) -> None:
    with LogWriter.create(path, LogHeader(lun=LUN, size=SIZE)) as log:
        log.zero(0, BLOCK)
        log.mark("here")
        log.zero(0, BLOCK)
    with LogReader(path) as reader:
        times = [entry.time for entry in reader.entries()]
    assert last_before(path) == 3
    assert last_before(path, mark="here") == 2
    assert last_before(path, seconds=times[0] - 1) == 0
    assert last_before(path, seconds=times[2]) == 3
    with pytest.raises(ObjectNotFound, match="nowhere"):
        last_before(path, mark="nowhere")
    with Replay(path, tmp_path / "i") as replay, pytest.raises(ObjectNotFound, match="3 entries"):
        replay.to(4)
