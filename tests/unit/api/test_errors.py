"""VssErrors travel unchanged; what is spoilt becomes Unexpected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.api.errors import decode_error, encode_error, status_error
from vssemu.vss import errors
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import ProviderFailure

_FAILURES = [code for code in Hresult if code.is_failure]


@given(
    code=st.sampled_from(_FAILURES),
    fact=st.text(),
    hint=st.none() | st.text(),
    item=st.none() | st.text(),
)
def test_an_error_comes_back_as_it_was_sent(
    code: Hresult, fact: str, hint: str | None, item: str | None
) -> None:
    sent = errors.error_for(code, fact, hint=hint, item=item)
    wire = encode_error(sent)
    assert wire is not None
    got = decode_error(wire)
    assert (type(got), got.hresult, got.fact, got.hint, got.item) == (
        type(sent),
        code,
        fact,
        hint,
        item,
    )


def test_every_failure_code_of_a_class_finds_its_class() -> None:
    error = errors.error_for(Hresult.VSS_E_SNAPSHOT_SET_IN_PROGRESS, "busy")
    assert isinstance(error, errors.SnapshotSetInProgress)
    assert str(error) == "VSS_E_SNAPSHOT_SET_IN_PROGRESS (0x80042316): busy"


def test_a_hint_stands_in_brackets_on_the_same_line() -> None:
    assert str(errors.BadState("x", hint="do y")).endswith(": x [do y]")


def test_a_providers_failure_travels_as_its_code_and_event_text() -> None:
    wire = encode_error(ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, "no room"))
    assert wire is not None
    assert wire["hresult"] == Hresult.VSS_E_PROVIDER_VETO
    assert wire["fact"] == "no room"


def test_an_exception_that_is_no_vss_error_is_not_translated() -> None:
    assert encode_error(KeyError("x")) is None


@pytest.mark.parametrize("spoilt", [{}, {"hresult": "x"}, {"hresult": 0, "fact": "fine"}])
def test_spoilt_parameters_become_unexpected(spoilt: dict[str, object]) -> None:
    assert isinstance(decode_error(spoilt), errors.Unexpected)


def test_an_unknown_code_is_unexpected_and_keeps_its_number() -> None:
    assert "0x80049999" in str(errors.error_for(0x80049999, "odd"))


def test_a_success_code_is_no_error() -> None:
    with pytest.raises(ValueError, match="success"):
        errors.error_for(Hresult.S_OK, "x")
    assert status_error(Hresult.VSS_S_ASYNC_FINISHED, "", None, None) is None
