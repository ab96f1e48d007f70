"""A preview says what is asked, what is declared, what is refused, and what nobody knows yet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from servicekit.store.log_verifier import LogVerifier
from stage4_service.errors import Reason
from stage4_service.limits import PlanLimits
from stage4_service.plan_document import PlanDocument, read_plan_document
from stage4_service.preview.catalogue import open_catalogue
from stage4_service.preview.preview_plan import Preview, Source, Unknown, preview_plan
from tests.harness.catalogues import KEY, domain, method, signed_catalogue
from tests.harness.pair import plan_document
from tests.harness.stage3 import step

CREDENTIAL = "token_" + "A" * 43
DOMAINS = (
    domain("text"),
    domain("open", method("run", parameters_schema=None, max_duration_ms=2500)),
    domain("far", method("run"), adapter="mcp", offered=False),
    domain(
        "moved",
        method("run"),
        adapter="mcp",
        offered=False,
        accepted_digest="ab" * 32,
        shown_digest="cd" * 32,
    ),
    domain("odd", method("run"), adapter="mcp", offered=False, accepted_digest="ab" * 32),
)
CATALOGUE = open_catalogue(signed_catalogue(*DOMAINS), LogVerifier(KEY.vkey))


def valid(*steps: Any, **changes: Any) -> PlanDocument:
    """Return a plan of these steps."""
    document = plan_document(CREDENTIAL, *steps, **changes)
    return read_plan_document(json.dumps(document).encode(), PlanLimits())


def previewed(*steps: Any, **changes: Any) -> Preview:
    """Return the preview of a plan of these steps."""
    return preview_plan(valid(*steps, **changes), CATALOGUE)


def problems(preview: Preview) -> list[tuple[str, str]]:
    """Return what is refused: why, and where."""
    return [(problem.reason, problem.path) for problem in preview.problems]


def test_a_plan_that_fits_has_no_problem() -> None:
    """Each step has what is declared of it, and the plan its sums."""
    preview = previewed(step("text", "upper", text="a"), step("open", "run", any=1))

    assert preview.problems == ()
    assert [item.declared for item in preview.steps] == [
        CATALOGUE.domains["text"].methods["upper"],
        CATALOGUE.domains["open"].methods["run"],
    ]
    assert (preview.max_duration_ms, preview.max_response_bytes) == (3500, 524_288)
    assert (preview.user_id, preview.trigger_type) == ("ada", "manual")


def test_the_digest_is_the_plans() -> None:
    """Without the credential: another token, the same plan to approve; another value, another."""
    plan = valid(step("text", "upper", text="a"))
    other = valid(step("text", "upper", text="b"))

    assert preview_plan(plan, CATALOGUE).digest == plan.digest.hex()
    assert preview_plan(other, CATALOGUE).digest == other.digest.hex() != plan.digest.hex()
    rebuilt = read_plan_document(
        json.dumps(plan_document("REPLACE_WITH_TOKEN", step("text", "upper", text="a"))).encode(),
        PlanLimits(),
    )
    assert preview_plan(rebuilt, CATALOGUE).digest == plan.digest.hex()


def test_the_same_plan_and_catalogue_give_the_same_preview() -> None:
    """It is a function of the two, and holds no credential."""
    steps = (step("text", "upper", text="a"), step("far", "run"))

    assert previewed(*steps) == previewed(*steps)
    assert CREDENTIAL not in repr(previewed(*steps))


@pytest.mark.parametrize(
    ("asked", "reason", "path", "words"),
    [
        (step("txt", "upper"), Reason.DOMAIN_UNKNOWN, "steps[1].domain", "no domain"),
        (step("text", "uper"), Reason.METHOD_UNDECLARED, "steps[1].method", "no method"),
        (
            step("far", "run", text="a"),
            Reason.METHOD_UNDECLARED,
            "steps[1].domain",
            "no operator has accepted",
        ),
        (
            step("moved", "run", text="a"),
            Reason.METHOD_UNDECLARED,
            "steps[1].domain",
            "something else than",
        ),
        (
            step("odd", "run", text="a"),
            Reason.METHOD_UNDECLARED,
            "steps[1].domain",
            "cannot be enforced",
        ),
        (
            step("text", "upper"),
            Reason.PARAMETERS_INVALID,
            "steps[1].parameters.text",
            "required",
        ),
        (
            step("text", "upper", text=1),
            Reason.PARAMETERS_INVALID,
            "steps[1].parameters.text",
            "must be string",
        ),
        (
            step("text", "upper", text="a", **{"te xt": 1}),
            Reason.PARAMETERS_INVALID,
            "steps[1].parameters.`te xt`",
            "no parameter",
        ),
    ],
)
def test_what_stage_3_refuses_is_named(asked: Any, reason: str, path: str, words: str) -> None:
    """With the reason that it would give, and the path of the value."""
    preview = previewed(step("text", "upper", text="a"), asked)

    assert problems(preview) == [(reason, path)]
    assert words in preview.problems[0].description


def test_every_step_is_looked_at() -> None:
    """A plan's problems are told at once, in the order of its steps."""
    preview = previewed(step("a", "b"), step("text", "upper"), step("far", "run"))

    assert [path for _, path in problems(preview)] == [
        "steps[0].domain",
        "steps[1].parameters.text",
        "steps[2].domain",
        "steps[2].parameters.text",
    ]
    assert (preview.max_duration_ms, preview.max_response_bytes) == (None, None)


def bind(source_path: str, target_path: str, **changes: Any) -> dict[str, Any]:
    """Return a binding from step 0 to step 1."""
    return {
        "source_step": 0,
        "source_path": source_path,
        "target_step": 1,
        "target_path": target_path,
        **changes,
    }


def test_a_binding_says_where_a_value_comes_from() -> None:
    """The step, the path and the parameter; that it is there is known, its value is not."""
    preview = previewed(
        step("text", "upper", text="a"),
        step("text", "upper"),
        data_bindings=[bind("text", "text", expected_type="string")],
    )

    assert preview.problems == ()
    assert preview.steps[0].sources == ()
    assert preview.steps[1].sources == (Source(0, "text", "text", "string"),)
    assert [(item.what, item.path) for item in preview.steps[1].unknown] == [
        (Unknown.BOUND_VALUE, "steps[1].parameters.text"),
        (Unknown.SCHEMA_WAITS, "steps[1].parameters"),
    ]
    assert preview.steps[1].unknown[0].description.endswith("it must be string")


def test_a_binding_into_a_parameter_that_is_none_is_refused() -> None:
    """Whatever its value will be."""
    preview = previewed(
        step("text", "upper", text="a"),
        step("text", "upper", text="b"),
        data_bindings=[bind("text", "txt.inner")],
    )

    assert problems(preview) == [(Reason.PARAMETERS_INVALID, "steps[1].parameters.txt")]


@pytest.mark.parametrize(
    ("bindings", "refused"),
    [
        ([bind("text", "text", expected_type="array")], True),
        ([bind("text", "`text`", expected_type="array")], True),
        ([bind("text", "text", expected_type="string")], False),
        ([bind("text", "text")], False),
        ([bind("text", "text.inner", expected_type="array")], False),
    ],
    ids=["another", "another_quoted", "the_declared", "not_said", "of_a_part"],
)
def test_a_binding_that_expects_what_its_parameter_may_not_be_is_refused(
    bindings: list[dict[str, Any]], *, refused: bool
) -> None:
    """Whichever value comes, the binding or gate 4 refuses it, after the effects before."""
    preview = previewed(
        step("text", "upper", text="a"), step("text", "upper"), data_bindings=bindings
    )

    expected = [(Reason.PARAMETERS_INVALID, "steps[1].parameters.text")]
    assert problems(preview) == (expected if refused else [])


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("text", "text"),
        ("text.inner.0", "text"),
        ("0", "0"),
        ("`a.b`", "a.b"),
        ("`a.b`.c", "a.b"),
        ("`a``b`.`c`", "a`b"),
        ("````", "`"),
        ("``````.d", "``"),
    ],
)
def test_the_parameter_of_a_path_is_its_first_key(path: str, parameter: str) -> None:
    """As the plan's specification spells keys, the quoted ones too."""
    assert Source(0, "a", path, None).parameter == parameter


def test_what_nobody_knows_is_said() -> None:
    """Of every plan: token, limits, revocation, age, answers; of several steps that it may end."""
    always = [
        *(Unknown.TOKEN, Unknown.LIMITS, Unknown.REVOCATION, Unknown.CATALOGUE, Unknown.DOMAINS)
    ]
    one = previewed(step("text", "upper", text="a"))
    two = previewed(step("text", "upper", text="a"), step("open", "run"))

    assert [item.what for item in one.unknown] == always
    assert [item.what for item in two.unknown] == [*always, Unknown.HALFWAY]
    assert [item.what for item in two.steps[0].unknown] == [Unknown.SCHEMA_REST]
    assert [item.what for item in two.steps[1].unknown] == [Unknown.NO_SCHEMA]
