"""docs/spec/plan.md says what the code does: every block and every table on it is executed.

Deliberately absent: a second list of what plans may be. What is expected stands on the page.
"""

import ast
import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from stage3_service.plan.binding_path import PathInvalid, parse_path
from stage3_service.plan.bindings import BindingUnresolved, has_type, resolve_bindings
from stage3_service.plan.limits import PlanLimits as Stage3Limits
from stage3_service.plan.parse import PlanInvalid, parse_plan
from stage3_service.plan.plan import Binding, JsonType, Step
from stage3_service.tokens.trigger_type import TriggerType
from stage4_service import validate_strict_json_plan
from stage4_service.limits import PlanLimits
from stage4_service.plan_document import read_plan_document
from stage4_service.plan_validator import PlanInvalid as Stage4PlanInvalid
from tests.house.test_documentation import names, rows
from tests.house.tree import ROOT, parsed
from tests.unit.stage3.plan.raw_plans import raw_from_document

PAGE = "docs/spec/plan.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
_MEMBER = re.compile(r"\[(\d+)\]|\.?(?:`([^`]*)`|([A-Za-z0-9_]+))")


def blocks(kind: str) -> list[str]:
    """Return the fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


PLAN: dict[str, Any] = json.loads(blocks("plan")[0])


class Refused(NamedTuple):
    """One change to the example, and what is answered."""

    change: str
    answer: str


def refused(kind: str) -> list[Refused]:
    """Return the pairs of lines in blocks of a kind."""
    lines = [line for block in blocks(kind) for line in block.splitlines()]
    assert len(lines) % 2 == 0
    return [Refused(a, b.strip()) for a, b in zip(lines[::2], lines[1::2], strict=True)]


REFUSED = refused("refused")
REFUSED_IN_PYTHON = refused("refused-in-python")
ACCEPTED = [line for block in blocks("accepted") for line in block.splitlines()]


def changed(change: str, read: Callable[[str], Any] = json.loads) -> Any:
    """Return the example with one line of a block applied to it."""
    document = copy.deepcopy(PLAN)
    if change.startswith("without "):
        *way, last = steps_of(change.removeprefix("without "))
        del inner(document, way)[last]
        return document
    place, _, value = change.partition(" = ")
    if place == "plan":
        return read(value)
    # A name in digits alone stands for a key that only Python can have.
    *way, last = [int(place)] if place.isdigit() else steps_of(place)
    inner(document, way)[last] = read(value)
    return document


def steps_of(place: str) -> list[Any]:
    """Return the keys and indexes that a place is made of."""
    found = list(_MEMBER.finditer(place))
    assert "".join(match[0] for match in found) == place
    return [int(m[1]) if m[1] else m[2] if m[2] is not None else m[3] for m in found]


def inner(document: Any, way: list[Any]) -> Any:
    """Return the value at the end of the way; objects that are missing are made."""
    for key in way:
        if isinstance(document, dict):
            document.setdefault(key, {})
        document = document[key]
    return document


def has_a_form_on_the_wire(document: Any) -> bool:
    """Return whether the message to Stage-3 could say this: its members, and their types."""
    if not isinstance(document, dict) or set(document) - {"data_bindings"} != {
        *("user_id", "token_hash", "trigger_type", "steps")
    }:
        return False
    texts = [document[name] for name in ("user_id", "token_hash", "trigger_type")]
    steps, bindings = document["steps"], document.get("data_bindings", [])
    if not isinstance(steps, list) or not isinstance(bindings, list):
        return False
    for step in steps:
        if not isinstance(step, dict) or set(step) != {"domain", "method", "parameters"}:
            return False
        texts += [step["domain"], step["method"]]
    for binding in bindings:
        paths = {"source_path", "target_path"}
        if not isinstance(binding, dict) or set(binding) - {"expected_type"} != {
            *("source_step", "target_step", *paths)
        }:
            return False
        if not all(type(binding[name]) is int for name in ("source_step", "target_step")):
            return False
        texts += [value for name, value in binding.items() if name in paths | {"expected_type"}]
    return all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize("line", REFUSED, ids=str)
def test_what_the_page_refuses_stage4_refuses_in_these_words(line: Refused) -> None:
    """The whole answer, path and description."""
    assert validate_strict_json_plan(changed(line.change)) == (False, line.answer)


@pytest.mark.parametrize("line", REFUSED, ids=str)
def test_what_the_page_refuses_is_refused_as_bytes(line: Refused) -> None:
    """The same words, unless the reader of bytes has refused the document before."""
    data = json.dumps(changed(line.change)).encode()
    try:
        parse(data, JsonLimits())
    except JsonRefused:
        expected = ""
    else:
        expected = line.answer
    with pytest.raises(Stage4PlanInvalid) as caught:
        read_plan_document(data, PlanLimits())
    assert expected in (str(caught.value), "")


ON_THE_WIRE = [line for line in REFUSED if has_a_form_on_the_wire(changed(line.change))]


def test_most_of_what_is_refused_has_a_form_on_the_wire() -> None:
    """The control of the next test: it is asked of each rule that a message leaves open."""
    answers = {line.answer for line in ON_THE_WIRE}
    for part in ("empty", "must hold at least", "must match", "segments", "one of", "names no"):
        assert any(part in answer for answer in answers), part
    assert len(ON_THE_WIRE) > 20


@pytest.mark.parametrize("line", ON_THE_WIRE, ids=str)
def test_what_the_page_refuses_stage3_refuses_at_the_same_path(line: Refused) -> None:
    """Inside parameters the path may end at a value around the one at fault."""
    document = changed(line.change)
    path = line.answer.partition(": ")[0]
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(raw_from_document(document), Stage3Limits())
    if ".parameters" in path:
        assert path.startswith(caught.value.path)
    else:
        assert caught.value.path == path


@pytest.mark.parametrize("line", REFUSED_IN_PYTHON, ids=str)
def test_what_only_python_can_bring_is_refused_in_these_words(line: Refused) -> None:
    """The whole answer, path and description."""
    document = changed(line.change, ast.literal_eval)
    assert validate_strict_json_plan(document) == (False, line.answer)


@pytest.mark.parametrize("change", ["", *ACCEPTED])
def test_what_the_page_accepts_both_services_accept(change: str) -> None:
    """Stage-4 as a value and as bytes, Stage-3 from the message, and with the same digest."""
    document = changed(change) if change else PLAN
    assert validate_strict_json_plan(document) == (True, None)
    digest = read_plan_document(json.dumps(document).encode(), PlanLimits()).digest
    assert parse_plan(raw_from_document(document), Stage3Limits()).digest == digest


# The page's rules `path` and `name`, transcribed.
_SEGMENT = r"(?:[^.`]+|`(?:[^`]|``)*`)"
_PATH = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*", re.DOTALL)
_NAME = re.compile(r"[a-z][a-z0-9_]{,63}")


@given(st.text(alphabet="a0.` é", max_size=8))
def test_a_path_is_what_the_grammar_on_the_page_derives(text: str) -> None:
    """No less and no more, for both services."""
    derived = _PATH.fullmatch(text) is not None
    document = changed(f"data_bindings[0].source_path = {json.dumps(text)}")
    assert validate_strict_json_plan(document)[0] is derived
    try:
        parse_path(text)
    except PathInvalid:
        assert not derived
    else:
        assert derived


@given(st.text(alphabet="az09_AÀ-\n", max_size=3) | st.sampled_from(["a" * 64, "a" * 65]))
def test_a_name_is_what_the_grammar_on_the_page_derives(text: str) -> None:
    """At most 64 characters, of ASCII alone."""
    derived = _NAME.fullmatch(text) is not None
    document = changed(f"steps[0].method = {json.dumps(text)}")
    assert validate_strict_json_plan(document)[0] is derived


def descriptions() -> Iterator[str]:
    """Yield a pattern for each description that the validator's code can give."""
    for module in ("stage4_service/plan_validator.py", "stage4_service/json_rule.py"):
        for node in ast.walk(parsed(ROOT / module)):
            match node:
                case ast.Call(func=ast.Name(id="Violation"), args=[_, said]):
                    yield from pattern(said)
                case ast.Call(func=ast.Name(id="JsonFault"), args=[said]):
                    yield from pattern(said)
                case ast.Call(func=ast.Attribute(attr="_over_limit"), args=[said]):
                    yield from pattern(said)
                case _:
                    pass


def pattern(said: ast.expr) -> Iterator[str]:
    """Yield a literal or formatted text as a pattern; a name stands for what others say."""
    match said:
        case ast.Constant(value=str(text)):
            yield re.escape(text)
        case ast.JoinedStr(values=parts):
            yield "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+"
                for part in parts
            )
        case _:
            pass


def test_every_description_in_the_code_is_on_the_page() -> None:
    """No rule has an answer that the page does not show."""
    answers = [line.answer for line in REFUSED + REFUSED_IN_PYTHON]
    shown = [answer.partition(": ")[2] or answer for answer in answers]
    shown += [row[3] for row in rows(PAGE, "Limits")]
    found = list(descriptions())

    assert len(found) > 25
    assert [one for one in found if not any(re.fullmatch(one, said) for said in shown)] == []


def nested(depth: int) -> JsonValue:
    """Return objects inside one another, so many brackets deep."""
    value: JsonValue = 0
    for _ in range(depth):
        value = {"a": value}
    return value


def at_size(limit: str, size: int) -> dict[str, Any]:
    """Return the example at this size of what the limit counts."""
    document = copy.deepcopy(PLAN)
    parameters, binding = document["steps"][1]["parameters"], document["data_bindings"][0]
    match limit:
        case "max_depth":
            parameters["deep"] = nested(size - 4)
        case "max_values":
            # The example has 21 values; the array is one more.
            parameters["many"] = [0] * (size - 22)
        case "max_key_bytes":
            parameters["k" * size] = 0
        case "max_string_bytes":
            parameters["long"] = "é" * (size // 2) + "a" * (size % 2)
        case "max_steps":
            document["steps"] = document["steps"][:1] * size
        case "max_bindings":
            document["data_bindings"] = [binding] * size
        case "max_identifier_bytes":
            document["trigger_type"] = "é" * (size // 2) + "a" * (size % 2)
        case "max_path_bytes":
            binding["source_path"] = "a" * size
        case "max_path_segments":
            binding["target_path"] = ".".join("a" * size)
        case _:
            raise AssertionError(limit)
    return document


LIMITS = {names(row[0])[0]: (int(row[1].replace(",", "")), row[3]) for row in rows(PAGE, "Limits")}


def test_every_limit_is_on_the_page_with_its_default() -> None:
    """The page has the limits of Stage-4, and Stage-3 has the same numbers."""
    defaults = PlanLimits()
    assert {name: size for name, (size, _) in LIMITS.items()} == {
        name: getattr(defaults, name) for name in PlanLimits.__slots__
    }
    stage3 = Stage3Limits()
    for name, (size, _) in LIMITS.items():
        own = "max_name_bytes" if name == "max_identifier_bytes" else name
        assert getattr(stage3 if hasattr(stage3, own) else stage3.document, own) == size
    assert f"depth {stage3.parameters.max_depth}." in TEXT


@pytest.mark.parametrize("limit", sorted(set(LIMITS) - {"max_bytes"}))
def test_a_limit_is_inclusive_and_answers_as_the_page_says(limit: str) -> None:
    """At the limit both accept; one beyond it both refuse, Stage-4 in these words."""
    size, answer = LIMITS[limit]
    parse_plan(raw_from_document(at_size(limit, size)), Stage3Limits())
    assert validate_strict_json_plan(at_size(limit, size)) == (True, None)
    beyond = at_size(limit, size + 1)
    valid, said = validate_strict_json_plan(beyond)
    assert not valid
    assert said is not None
    assert said.endswith(f": {answer}") or said == answer
    # Stage-3 has the parameters alone, and they have fewer values than the document.
    if limit != "max_values":
        with pytest.raises(PlanInvalid):
            parse_plan(raw_from_document(beyond), Stage3Limits())


def test_the_limit_on_bytes_is_inclusive_and_answers_as_the_page_says() -> None:
    """White space counts."""
    size, answer = LIMITS["max_bytes"]
    data = json.dumps(PLAN).encode()
    read_plan_document(data.ljust(size), PlanLimits())
    with pytest.raises(Stage4PlanInvalid) as caught:
        read_plan_document(data.ljust(size + 1), PlanLimits())
    assert str(caught.value) == answer


def test_the_trigger_types_on_the_page_are_those_a_token_can_allow() -> None:
    """In the order of the list."""
    listed = re.search(r"can allow are (.*?)\.\n", TEXT, re.DOTALL)
    assert listed is not None
    assert names(listed[1]) == [member.value for member in TriggerType]


FILLING = [
    tuple(cell.strip() for cell in line.split(" | "))
    for block in blocks("filling")
    for line in block.splitlines()
]


@pytest.mark.parametrize(("output", "binding", "parameters", "becomes"), FILLING)
def test_a_binding_does_what_the_page_says(
    output: str, binding: str, parameters: str, becomes: str
) -> None:
    """The bytes that a domain is handed, or why a binding is not resolved."""
    paths, _, expected_type = binding.partition(" : ")
    source, _, target = paths.partition(" -> ")
    stated = json.loads(parameters)
    step = Step(1, "notebook", "append_note", stated, parameters.encode())
    flow = Binding(
        *(0, 0, parse_path(source), 1, parse_path(target)),
        JsonType(expected_type) if expected_type else None,
    )
    outputs, limits = {0: json.loads(output)}, Stage3Limits().parameters
    try:
        said = resolve_bindings(step, (flow,), outputs, limits).json_bytes.decode()
    except BindingUnresolved as unresolved:
        said = f"refused: {unresolved.description}"

    assert said == becomes


def test_a_later_binding_replaces_what_an_earlier_one_put() -> None:
    """Declared order is the order of application, as the page says."""
    step = Step(2, "text", "upper", {}, b"{}")
    flows = [
        Binding(index, index, parse_path("v"), 2, parse_path("text"), None) for index in (0, 1)
    ]
    outputs: dict[int, JsonValue] = {0: {"v": "first"}, 1: {"v": "second"}}
    limits = Stage3Limits().parameters
    assert resolve_bindings(step, flows, outputs, limits).value == {"text": "second"}
    assert resolve_bindings(step, flows[::-1], outputs, limits).value == {"text": "first"}


def test_the_types_on_the_page_have_the_values_on_the_page() -> None:
    """Each value in the second column has the row's type; none in the third has it."""
    table = [row for row in rows(PAGE, "What a binding does") if len(row) == 3]
    assert [names(row[0])[0] for row in table] == [member.value for member in JsonType]
    for row in table:
        expected = JsonType(names(row[0])[0])
        for cell, verdict in ((row[1], True), (row[2], False)):
            for text in names(cell):
                value = parse(text.encode(), JsonLimits()).value
                assert has_type(value, expected) is verdict, (text, expected)
