"""Broken plans and paths, by the hundred thousand: two services, one verdict, one digest."""

from __future__ import annotations

import copy
import json
import os
import re
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from servicekit.ijson import JsonLimits, JsonRefused, parse
from stage3_service.plan.binding_path import (
    PathInvalid,
    PathUnresolved,
    parse_path,
    read_path,
    write_path,
)
from stage3_service.plan.limits import PlanLimits
from stage3_service.plan.parse import PlanInvalid, RawBinding, RawPlan, RawStep, parse_plan
from stage4_service.limits import PlanLimits as Stage4Limits
from stage4_service.plan_document import PlanDocument, holds_credential, read_plan_document
from stage4_service.plan_validator import PlanInvalid as RefusedByStage4
from tests.harness.mutations import broken_documents
from tests.harness.slices import slice_of_long_run
from tests.unit.stage3.plan.test_same_verdict_as_stage4 import LAWFUL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED: Final = int(os.environ.get("STAGEGATE_FUZZ_SEED", "8785"))
IN_CI: Final = 200_000
IN_THE_LONG_RUN: Final = 10_000_000
LIMITS: Final = PlanLimits()
STAGE4_LIMITS: Final = Stage4Limits()
PLAN_FIELDS: Final = {"user_id", "token_hash", "trigger_type", "steps"}
STEP_FIELDS: Final = {"domain", "method", "parameters"}
BINDING_FIELDS: Final = {"source_step", "source_path", "target_step", "target_path"}
# Put wherever a value stands in a lawful plan.
ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, 2, 3, -1, 1.0, 0.5, 2**31, 2**53 - 1, [], {}, [0], {"a": 1}),
    *("", "a", "A", "a.b", "a..b", "`a.b`", "`", "é", "x" * 257, "a" * 64, "a" * 65, "0", "null"),
    *("string", "token_" + "A" * 43, "manual", "a\n", "\u2028", "a b", "\u0430", {"": 0}),
)


def edited_documents(random: Random, number: int) -> Iterator[bytes]:
    """Yield lawful plans in which one to three values are others, gone, or doubled."""
    lawful = json.dumps(LAWFUL)
    for _ in range(number):
        document: Any = json.loads(lawful)
        for _ in range(random.randint(1, 3)):
            _edit(random, document)
        spelled = json.dumps(document, ensure_ascii=random.random() < 0.5)
        yield spelled.encode("utf-8", "surrogatepass")


def _edit(random: Random, container: Any) -> None:
    """Walk to some place in a document and change what is there."""
    while True:
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        if not keys:
            return
        key = random.choice(keys)
        if isinstance(container[key], dict | list) and random.random() < 0.8:
            container = container[key]
            continue
        match random.randint(0, 5):
            case 0:
                del container[key]
            case 1 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case 2 if isinstance(container, dict):
                container[random.choice(("a", "expected_type", "extra", "parameters"))] = (
                    random.choice(ODD_VALUES)
                )
            case _:
                container[key] = copy.deepcopy(random.choice(ODD_VALUES))
        return


def stage4_reads(data: bytes) -> PlanDocument | None:
    """Return what Stage-4 makes of the bytes; anything but its one refusal is a crash."""
    try:
        return read_plan_document(data, STAGE4_LIMITS)
    except RefusedByStage4:
        return None


def stage3_digest(raw: RawPlan) -> bytes | None:
    """Return the digest that Stage-3 finds; anything but its one refusal is a crash."""
    try:
        return parse_plan(raw, LIMITS).digest
    except PlanInvalid:
        return None


def as_sent(document: PlanDocument) -> RawPlan:
    """Return what Stage-4 sends of a plan that it accepted: the client's own spans."""
    plan = document.plan
    bindings = plan.data_bindings
    return RawPlan(
        plan.user_id,
        plan.token_hash,
        plan.trigger_type,
        tuple(
            RawStep(item["domain"], item["method"], span)
            for item, span in zip(plan.steps, document.parameters_json, strict=True)
        ),
        None if bindings is None else tuple(RawBinding(**binding) for binding in bindings),
    )


def if_it_were_sent(data: bytes) -> RawPlan | None:
    """Return what a Stage-4 without any rule would send; None where no message could hold it."""
    try:
        value: Any = parse(data, JsonLimits()).value
    except JsonRefused:
        return None
    if not isinstance(value, dict) or value.keys() - {"data_bindings"} != PLAN_FIELDS:
        return None
    steps, bindings = value["steps"], value.get("data_bindings", [])
    texts = [value["user_id"], value["token_hash"], value["trigger_type"]]
    for step in steps if isinstance(steps, list) else [None]:
        if not isinstance(step, dict) or step.keys() != STEP_FIELDS:
            return None
        texts += [step["domain"], step["method"]]
    for binding in bindings if isinstance(bindings, list) else [None]:
        if (
            not isinstance(binding, dict)
            or binding.keys() - {"expected_type"} != BINDING_FIELDS
            or not all(type(binding[end]) is int for end in ("source_step", "target_step"))
            or not all(abs(binding[end]) < 2**31 for end in ("source_step", "target_step"))
        ):
            return None
        texts += [binding["source_path"], binding["target_path"]]
        texts += [binding["expected_type"]] if "expected_type" in binding else []
    if not all(isinstance(text, str) for text in texts):
        return None
    return RawPlan(
        value["user_id"],
        value["token_hash"],
        value["trigger_type"],
        tuple(
            RawStep(step["domain"], step["method"], json.dumps(step["parameters"]).encode())
            for step in steps
        ),
        tuple(RawBinding(**binding) for binding in bindings) if "data_bindings" in value else None,
    )


def fuzz(number: int, seed: int) -> Counter[str]:
    """Let both services judge so many documents; raise at the first that they judge differently."""
    random = Random(seed)  # noqa: S311 - the same for everybody
    lawful = json.dumps(LAWFUL).encode()
    seen: Counter[str] = Counter()
    for source in (
        broken_documents(random, [lawful, json.dumps(LAWFUL, indent=1).encode()], number // 2),
        edited_documents(random, number - number // 2),
    ):
        for data in source:
            judge(data, seen)
    return seen


def judge(data: bytes, seen: Counter[str]) -> None:
    """Compare the two verdicts on one document, and the digests of an accepted one."""
    document = stage4_reads(data)
    if document is not None:
        seen["accepted"] += 1
        assert stage3_digest(as_sent(document)) == document.digest, data
        return
    raw = if_it_were_sent(data)
    if raw is None or holds_credential(raw.user_id) or holds_credential(raw.trigger_type):
        seen["no message could hold it"] += 1
        return
    seen["refused by both"] += 1
    assert stage3_digest(raw) is None, data


def _verify(number: int, seed: int, record_property: Callable[[str, object], None]) -> None:
    seen = fuzz(number, seed)
    assert all(seen[kind] > number // 100 for kind in ("accepted", "refused by both")), seen
    record_property(
        "figure",
        f"plan fuzz, seed {seed}: {number:,} documents, 0 crashes, 0 differences in verdict or "
        f"digest; {dict(seen)}",
    )


def test_both_services_judge_two_thousand_broken_plans_alike(
    record_property: Callable[[str, object], None],
) -> None:
    """Accepted by both with one digest, or by neither."""
    _verify(2_000, SEED, record_property)


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_both_services_judge_two_hundred_thousand_broken_plans_alike(
    record_property: Callable[[str, object], None],
) -> None:
    """The same, with more of them."""
    _verify(IN_CI, SEED, record_property)


@pytest.mark.long
def test_both_services_judge_ten_million_broken_plans_alike(
    record_property: Callable[[str, object], None],
) -> None:
    """The same, for hours, in fifty seeds."""
    part = slice_of_long_run()
    seeds = part.cases(IN_THE_LONG_RUN // IN_CI)
    for seed in seeds:
        _verify(IN_CI, SEED + seed, record_property)
    record_property(
        "figure", part.label(f"plan fuzz: {len(seeds) * IN_CI:,} documents, 0 differences")
    )


def test_a_rule_that_one_service_forgets_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a Stage-4 that takes any name of a domain differs within two thousand."""
    from stage4_service import plan_validator

    monkeypatch.setattr(plan_validator, "_NAME", re.compile(r".*", re.DOTALL))
    with pytest.raises(AssertionError):
        fuzz(2_000, SEED)


# A second reading of the grammar of docs/spec/plan.md: the whole of it in one expression.
SEGMENT: Final = r"(?:`(?:[^`]|``)*`|[^`.]+)"
PATH: Final = re.compile(rf"{SEGMENT}(?:\.{SEGMENT})*", re.DOTALL)
LETTERS: Final = ("a", "b", "é", "0", "1", "10", "01", "`", "``", ".", "..", " ", "\n", "-", "`a`")


def test_paths_are_read_as_the_grammar_says_and_lead_back_to_what_was_written(
    record_property: Callable[[str, object], None],
) -> None:
    """Of forty thousand texts those that match are paths; what is written there is read there."""
    random = Random(SEED)  # noqa: S311 - the same for everybody
    accepted = written = 0
    for _ in range(40_000):
        text = "".join(random.choice(LETTERS) for _ in range(random.randint(0, 7)))
        try:
            path = parse_path(text)
        except PathInvalid:
            assert PATH.fullmatch(text) is None, text
            continue
        accepted += 1
        assert PATH.fullmatch(text) is not None, text
        assert [segment.name for segment in path.segments] == [
            part[1:-1].replace("``", "`") if part.startswith("`") else part
            for part in re.findall(SEGMENT, text, re.DOTALL)
        ], text
        parameters: dict[str, Any] = {"a": [{"b": 0}, [1, 2]], "b": "text", "0": {"1": None}}
        try:
            write_path(parameters, path, {"put": [text]})
        except PathUnresolved:
            continue
        written += 1
        assert read_path(parameters, path) == {"put": [text]}, text
    assert min(accepted, written) > 1_000
    record_property("figure", f"path fuzz, seed {SEED}: 40,000 texts, {accepted:,} paths")
