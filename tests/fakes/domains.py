"""A domain that misbehaves on demand, for every test that needs one.

Hand `trial_domain(...)` to `open_domains(extra_domains=...)`, in process or in a program that a
test starts. Shipped code has no way to load it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from servicekit.ijson import JsonLimits, parse
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.adapters.registry import ExtraDomain
from stage3_service.domains.declaration import DomainDeclaration, MethodDeclaration, Repetition
from stage3_service.domains.port import (
    Answer,
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)

TRIAL_SCHEMA = b'{"type":"object"}'
TRIAL_MAX_RESPONSE_BYTES = 4096
STALL_S = 0.3
"""How long `stall` is waited for. Every other method has much longer, so that none of them is given
up because the machine was busy."""


class TrialError(Exception):
    """What `raise_error` raises; its text quotes the parameters, as careless code does."""


class TrialDomain:
    """One method per kind of behaviour. `received` is what it was handed, in order.

    `hang`, `stall` and `effect_then_hang` return only after `release` is set, which in a process of
    its own is never. `effects_file`, when given, gets one durable line with the idempotency key per
    effect.
    """

    def __init__(self, effects_file: Path | None = None) -> None:
        self.received: list[Invocation] = []
        self.effects: list[str] = []
        self.release = threading.Event()
        self.entered = threading.Semaphore(0)
        self._effects_file = effects_file
        self._lock = threading.Lock()

    def invoke(self, invocation: Invocation) -> Answer:
        """Note what came in and behave as the method's name says."""
        self.received.append(invocation)
        self.entered.release()
        return METHODS[invocation.method](self, invocation)

    def echo(self, invocation: Invocation) -> Answer:
        """Answer the parameters, byte for byte."""
        return Output(invocation.parameters_json)

    def effect(self, invocation: Invocation) -> Answer:
        """Leave one effect and answer how many there are."""
        with self._lock:
            self.effects.append(invocation.idempotency_key)
            if self._effects_file is not None:
                with self._effects_file.open("a") as file:
                    file.write(invocation.idempotency_key + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            return Output(b'{"effects":%d}' % len(self.effects))

    def hang(self, invocation: Invocation) -> Answer:
        """Answer only after `release`."""
        self.release.wait()
        return Output(b'{"released":true}')

    def stall(self, invocation: Invocation) -> Answer:
        """Hang, as a method that may take a moment only: for a step that is to be in doubt."""
        return self.hang(invocation)

    def effect_then_hang(self, invocation: Invocation) -> Answer:
        """Leave one effect, then answer only after `release`."""
        self.effect(invocation)
        return self.hang(invocation)

    def slow(self, invocation: Invocation) -> Answer:
        """Answer after `seconds`, a number in the parameters, or after `release`."""
        value = parse(invocation.parameters_json, JsonLimits()).value
        seconds = value.get("seconds") if isinstance(value, dict) else None
        if not isinstance(seconds, int | float):
            return MethodFailed("slow takes a number of seconds")
        self.release.wait(seconds)
        return Output(b'{"slow":true}')

    def fail(self, invocation: Invocation) -> Answer:
        """Answer that the method failed."""
        return MethodFailed("the trial failed as asked")

    def raise_error(self, invocation: Invocation) -> Answer:
        """Raise an error that quotes the parameters."""
        raise TrialError(invocation.parameters_json.decode())

    def exit_process(self, invocation: Invocation) -> Answer:
        """Try to end the process."""
        raise SystemExit(3)

    def no_answer(self, invocation: Invocation) -> Answer:
        """Return something that is no answer."""
        return None  # type: ignore[return-value]

    def unreachable(self, invocation: Invocation) -> Answer:
        """Say that nothing was started."""
        raise DomainUnreachable("the trial was not started")

    def silent(self, invocation: Invocation) -> Answer:
        """Say that no answer came."""
        raise DomainSilent("the trial lost its connection")

    def long_message(self, invocation: Invocation) -> Answer:
        """Fail with a message over the bound."""
        return MethodFailed("x" * 2000)

    def mutable_output(self, invocation: Invocation) -> Answer:
        """Answer with a buffer that can still change."""
        return Output(bytearray(b"{}"))  # type: ignore[arg-type]


RAW_ANSWERS: Mapping[str, bytes] = {
    "garbage": b"{this is not JSON",
    "empty": b"",
    "invalid_utf8": b'{"text":"\xff\xfe"}',
    "byte_order_mark": b"\xef\xbb\xbf{}",
    "utf16": '{"a":1}'.encode("utf-16"),
    "huge_integer": b'{"count":9007199254740992}',
    "very_long_integer": b'{"count":' + b"9" * 4000 + b"}",
    "not_a_number": b'{"ratio":NaN}',
    "infinity": b"[Infinity]",
    "overflow": b'{"ratio":1e999}',
    "minus_zero": b'{"ratio":-0}',
    "inexact_number": b'{"ratio":0.1000000000000000055511151231257827}',
    "duplicate_keys": b'{"a":1,"a":2}',
    "lone_surrogate": b'{"text":"\\ud800"}',
    "null_character": b'{"text":"\\u0000"}',
    "trailing_bytes": b"{} {}",
    "too_deep": b"[" * 33 + b"]" * 33,
    "bottomless": b"[" * 4000,
    "oversized": b'"' + b"x" * TRIAL_MAX_RESPONSE_BYTES + b'"',
}
"""Answers that must each be found invalid, by the method that gives them."""


def _answering(raw: bytes) -> Callable[[TrialDomain, Invocation], Answer]:
    return lambda _domain, _invocation: Output(raw)


METHODS: Mapping[str, Callable[[TrialDomain, Invocation], Answer]] = {
    "echo": TrialDomain.echo,
    "effect": TrialDomain.effect,
    "hang": TrialDomain.hang,
    "stall": TrialDomain.stall,
    "effect_then_hang": TrialDomain.effect_then_hang,
    "slow": TrialDomain.slow,
    "fail": TrialDomain.fail,
    "raise_error": TrialDomain.raise_error,
    "exit_process": TrialDomain.exit_process,
    "no_answer": TrialDomain.no_answer,
    "unreachable": TrialDomain.unreachable,
    "silent": TrialDomain.silent,
    "long_message": TrialDomain.long_message,
    "mutable_output": TrialDomain.mutable_output,
    **{name: _answering(raw) for name, raw in RAW_ANSWERS.items()},
}


def longest_s(method: str, max_duration_s: float) -> float:
    """Return how long a method may take, where the others may take `max_duration_s`."""
    return min(STALL_S, max_duration_s) if method == "stall" else max_duration_s


def trial_declaration(name: str = "trial", *, max_duration_s: float = 5.0) -> DomainDeclaration:
    """Declare every method of the trial domain; parameters are any object."""
    methods = {
        method: MethodDeclaration(
            name=method,
            description=f"Behaves as its name says: {method}.",
            max_duration_s=longest_s(method, max_duration_s),
            max_response_bytes=TRIAL_MAX_RESPONSE_BYTES,
            repetition=Repetition.NEITHER,
            parameters_schema_json=TRIAL_SCHEMA,
            validator=compile_schema(TRIAL_SCHEMA),
        )
        for method in METHODS
    }
    return DomainDeclaration(name, "trial", None, methods)


def trial_domain(
    name: str = "trial",
    *,
    max_duration_s: float = 5.0,
    effects_file: Path | None = None,
) -> tuple[ExtraDomain, TrialDomain]:
    """Return what `open_domains` takes, and the domain itself to look into and to release."""
    domain = TrialDomain(effects_file)
    declaration = trial_declaration(name, max_duration_s=max_duration_s)
    return ExtraDomain(declaration, domain), domain
