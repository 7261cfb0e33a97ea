import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.rpc.errors import MessageTooLarge, ProtocolViolation
from vssemu.rpc.protocol import Framer, Message, call_message, parse_call, parse_reply

bodies = st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\0", b"")), max_size=8)


def drain(framer: Framer) -> list[Message]:
    return list(iter(framer.next_message, None))


@given(bodies, st.lists(st.integers(0, 400)))
def test_any_split_of_the_bytes_gives_the_same_messages(
    messages: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(message + b"\0" for message in messages)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    framer = Framer()
    found: list[Message] = []
    for start, end in pairwise(edges):
        framer.receive_data(stream[start:end])
        found += drain(framer)
    assert [message.data for message in found] == messages
    assert framer.is_between_messages


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.booleans()), max_size=8))
def test_a_descriptor_goes_with_the_message_that_holds_the_last_byte_of_its_chunk(
    messages: list[tuple[bytes, bool]],
) -> None:
    framer = Framer(discard=lambda _: pytest.fail("nothing is to be discarded"))
    found: list[Message] = []
    expected = []
    for number, (body, carries) in enumerate(messages):
        body = body.replace(b"\0", b"")
        descriptors = (number,) if carries else ()
        # sendmsg in two parts, the first with the descriptor, as a full socket does it
        half = (body + b"\0")[: len(body) // 2 + 1]
        framer.receive_data(half, descriptors)
        framer.receive_data((body + b"\0")[len(half) :] or b"") if half != body + b"\0" else None
        expected.append((body, descriptors))
        found += drain(framer)
    assert [(message.data, message.descriptors) for message in found] == expected


def test_earlier_bytes_merged_into_the_chunk_of_a_descriptor_do_not_take_it() -> None:
    framer = Framer(discard=lambda _: None)
    framer.receive_data(b"one\0two\0thr", (9,))
    framer.receive_data(b"ee\0four\0")
    assert [message.descriptors for message in drain(framer)] == [(), (), (9,), ()]


def test_close_discards_what_no_message_took() -> None:
    discarded: list[int] = []
    framer = Framer(discard=discarded.append)
    framer.receive_data(b"one\0tw", (7, 8))
    drain(framer)
    framer.close()
    framer.close()
    assert discarded == [7, 8]


def test_a_message_with_too_many_descriptors_is_refused_and_they_are_closed() -> None:
    discarded: list[int] = []
    framer = Framer(discard=discarded.append)
    framer.receive_data(b"one\0", range(5))
    with pytest.raises(ProtocolViolation, match="5 descriptors"):
        framer.next_message()
    assert discarded == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ended", [b"", b"\0"])
def test_a_message_over_the_limit_is_refused_whether_it_ends_or_not(ended: bytes) -> None:
    framer = Framer(10)
    framer.receive_data(b"ten bytes!\0" + b"eleven byte" + ended)
    assert framer.next_message() == Message(data=b"ten bytes!")
    with pytest.raises(MessageTooLarge, match="longer than 10 bytes"):
        framer.next_message()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"method":1}',
        b'{"parameters":{}}',
        b'{"method":"a.B","more":1}',
        b'{"method":"a.B"} {}',
        b'{"method":"\xff"}',
        b'{"method":"a.B","x":' + b"[" * 100_000,
        b'{"method":"a.B","parameters":' + b'{"a":' * 100_000,
        b"9" * 100_000,
    ],
    ids=range(12),
)
def test_what_is_no_call_is_a_violation(data: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="no varlink call"):
        parse_call(data)


@given(st.binary(max_size=60))
def test_no_bytes_make_anything_but_a_call_or_a_violation(data: bytes) -> None:
    for parse in (parse_call, parse_reply):
        try:
            parse(data)
        except ProtocolViolation:
            continue


def test_null_and_absence_are_the_same_in_an_envelope() -> None:
    bare = parse_call(b'{"method":"a.B"}')
    assert parse_call(b'{"method":"a.B","parameters":null,"more":null,"oneway":null}') == bare
    assert bare.parameters == b"{}"


def test_a_call_message_is_the_json_that_the_standard_library_reads() -> None:
    message = call_message('a."B', b'{"x":1}', more=True)
    assert json.loads(message[:-1]) == {"method": 'a."B', "parameters": {"x": 1}, "more": True}
    assert message.endswith(b"\0")


def test_a_call_that_is_too_long_is_not_made() -> None:
    with pytest.raises(MessageTooLarge, match="20 are allowed"):
        call_message("a.B", b'{"x":"12345678"}', limit=20)
