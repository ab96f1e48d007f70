"""The port's values: what a domain is handed and may answer is immutable and bounded."""

from __future__ import annotations

import dataclasses

import pytest

from stage3_service.domains.port import Invocation, MethodFailed, Output


def test_an_invocation_has_exactly_four_fields() -> None:
    """The data boundary is the shape of this type: a fifth field would be a hole in it."""
    names = [field.name for field in dataclasses.fields(Invocation)]
    assert names == ["method", "parameters_json", "deadline_s", "idempotency_key"]


@pytest.mark.parametrize("parameters", [bytearray(b"{}"), memoryview(b"{}"), "{}", None])
def test_an_invocation_refuses_parameters_that_could_change(parameters: object) -> None:
    """Anything but bytes could be shared memory."""
    with pytest.raises(TypeError, match="immutable bytes"):
        Invocation("upper", parameters, 1.0, "p/0")  # type: ignore[arg-type]


def test_the_bytes_of_an_invocation_and_an_output_are_the_ones_given() -> None:
    """Nothing is copied, parsed or rewritten on the way to the domain and back."""
    raw = b' {"text" : "x"} '
    assert Invocation("upper", raw, 1.0, "p/0").parameters_json is raw
    assert Output(raw).json_bytes is raw


@pytest.mark.parametrize("output", [bytearray(b"{}"), memoryview(b"{}"), "{}", None])
def test_an_output_refuses_bytes_that_could_change(output: object) -> None:
    """A domain must not change an answer after it was read."""
    with pytest.raises(TypeError, match="immutable bytes"):
        Output(output)  # type: ignore[arg-type]


def test_a_failure_message_may_have_1024_bytes_and_no_more() -> None:
    """The bound is inclusive and counts bytes, not characters."""
    assert MethodFailed("é" * 512).message == "é" * 512
    with pytest.raises(ValueError, match="at most 1024 bytes"):
        MethodFailed("é" * 512 + "x")


def test_a_failure_message_without_utf8_form_is_refused() -> None:
    """A lone surrogate could not be recorded."""
    with pytest.raises(ValueError, match="surrogates"):
        MethodFailed("\ud800")


@pytest.mark.parametrize("message", [b"bytes", None, 5, ["a"]])
def test_a_failure_message_is_a_string(message: object) -> None:
    """Garbage in place of a message is found where it is made."""
    with pytest.raises(TypeError, match="must be a string"):
        MethodFailed(message)  # type: ignore[arg-type]
