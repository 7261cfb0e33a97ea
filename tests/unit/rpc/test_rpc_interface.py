import dataclasses
import datetime
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import varlink
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rpc import example
from tests.unit.rpc.example import SHOP, CopyId, Everything, Inner, Kind, Mask
from vssemu.rpc.idl import describe
from vssemu.rpc.interface import Declared, Interface
from vssemu.rpc.introspection import SERVICE, STANDARD_ERRORS

int64 = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
inners = st.builds(Inner, number=int64, text=st.none() | texts)
everythings = st.builds(
    Everything,
    flag=st.booleans(),
    number=int64,
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    text=texts,
    raw=st.binary(max_size=40),
    guid=st.uuids(),
    copy_id=st.uuids().map(CopyId),
    mask=st.integers(0, 2**63 - 1).map(Mask),
    kind=st.sampled_from(Kind),
    inner=inners,
    many=st.lists(inners, max_size=3),
    pair=st.lists(int64, max_size=3).map(tuple),
    table=st.dictionaries(texts, inners, max_size=3),
    maybe=st.none() | st.uuids().map(CopyId),
)


@given(everythings)
def test_every_type_comes_back_as_it_went(record: Everything) -> None:
    call = example.echo.encode_parameters(None, (record,), {})
    assert example.echo.decode_parameters(call) == {"record": record}
    assert example.echo.result.decode(example.echo.result.encode(record)) == record


def test_the_wire_forms_are_the_pinned_ones() -> None:
    guid = UUID("ABCDEF00-0000-0000-0000-000000000001")
    sent = example.add.encode_parameters("s1", ("F:\\", Mask.ONE | Mask.HIGH), {"provider": guid})
    assert json.loads(sent) == {
        "session": "s1",
        "volume": "F:\\",
        "mask": 1 + (1 << 62),
        "provider": "abcdef00-0000-0000-0000-000000000001",
    }
    assert json.loads(example.flat.result.encode(Inner(number=1))) == {"number": 1, "text": None}
    assert json.loads(example.do_snapshot_set.result.encode("o1")) == {"operation": "o1"}
    assert example.crash.result.encode(None) == b"{}"


@pytest.mark.parametrize("sent", [b"{}", b'{"mask":null}'])
def test_a_parameter_left_out_or_null_is_its_default(sent: bytes) -> None:
    filled = sent[:-1] + (b"," if len(sent) > 2 else b"") + b'"session":"s","volume":"v"}'
    assert example.add.decode_parameters(filled)["mask"] is Mask.ONE


def test_a_scoped_method_needs_its_scope_and_fitting_arguments() -> None:
    with pytest.raises(TypeError, match=r"org\.example\.Shop\.Add needs a session"):
        example.add.encode_parameters(None, ("F:",), {})
    with pytest.raises(TypeError, match="volume"):
        example.add.encode_parameters("s", (), {})


def test_the_text_is_read_by_another_implementation() -> None:
    read = varlink.scanner.Interface(describe(SHOP))
    assert read.name == "org.example.Shop"
    members = set(read.members)
    assert {method.name for method in SHOP.methods.values()} < members
    assert {"Inner", "Everything", "Kind", "Failed"} < members
    assert list(read.members["Add"].in_type.fields) == ["session", "volume", "mask", "provider"]
    assert isinstance(read.members["Add"].in_type.fields["mask"], varlink.scanner._Maybe)
    assert list(read.members["Flat"].out_type.fields) == ["number", "text"]
    assert isinstance(read.members["Echo"].out_type.fields["record"], varlink.scanner._CustomType)


def test_the_text_says_what_varlink_types_do_not() -> None:
    text = describe(SHOP)
    assert "# Sells copies.\n#\n# To everybody.\ninterface org.example.Shop\n" in text
    assert "# Mask: ONE 0x1, TWO 0x2, HIGH 0x4000000000000000\n" in text
    assert "# mask: null is 1\n" in text
    assert "# raw: base64\n" in text
    assert "type Kind (base, plex)\n" in text
    assert "table: [string]Inner" in text
    assert "method Count(up_to: int, last: ?bool) -> (number: ?int)" in text
    assert "method DoSnapshotSet(session: string) -> (operation: string)" in text
    assert text.endswith(
        "error Failed (hresult: int, name: string, fact: string, hint: ?string, item: ?string)\n"
    )
    assert max(map(len, text.splitlines())) < 100


def test_the_standard_service_interface_is_readable_too() -> None:
    read = varlink.scanner.Interface(describe(SERVICE, errors=STANDARD_ERRORS))
    out = read.members["GetInfo"].out_type.fields
    assert list(out) == ["vendor", "product", "version", "url", "interfaces"]


@dataclasses.dataclass(frozen=True)
class When:
    time: datetime.datetime


def with_time(when: When) -> None:
    raise Declared


def without_annotation(when) -> None:  # type: ignore[no-untyped-def]
    raise Declared


def with_union(number: int | str) -> None:
    raise Declared


def with_pair(pair: tuple[int, str]) -> None:
    raise Declared


def with_number_keys(table: dict[int, str]) -> None:
    raise Declared


def with_reserved_name(caller: str) -> None:
    raise Declared


def with_underscore(_name: str) -> None:
    raise Declared


def with_star(*names: str) -> None:
    raise Declared


def with_bare_result() -> int:
    raise Declared


def with_double_meaning(number: int | None = 3) -> None:
    raise Declared


def with_scope_name(session: str) -> None:
    raise Declared


@pytest.mark.parametrize(
    ("stub", "text"),
    [
        (with_time, r"When\.time.*datetime has no form"),
        (without_annotation, "when must be annotated"),
        (with_union, r"only `T \| None`"),
        (with_pair, r"only tuple\[T, \.\.\.\]"),
        (with_number_keys, "keys of a map are str"),
        (with_reserved_name, "caller is reserved"),
        (with_underscore, "'_name' is no varlink field name"),
        (with_star, "usable as a keyword"),
        (with_bare_result, "say returns="),
        (with_double_meaning, "default is None"),
        (with_scope_name, "session is reserved"),
    ],
)
def test_what_cannot_travel_is_refused_at_its_declaration(
    stub: Callable[..., Any], text: str
) -> None:
    interface = Interface("org.example.Bad", "", scope=("session", str))
    with pytest.raises(TypeError, match=text):
        interface.method()(stub)
    assert not interface.methods


def test_a_name_is_declared_once() -> None:
    interface = Interface("org.example.Twice", "")
    interface.method(name="Same", returns="n")(with_bare_result)
    with pytest.raises(TypeError, match="the name is taken"):
        interface.method(name="Same", returns="n")(with_bare_result)
