"""Phase 2b: scope is exact strings against explicit lists, and what is in scope is declared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage3_service.authorization.gate import Denial, DenialReason, GateName
from stage3_service.authorization.scope_gate import decide_scope
from stage3_service.errors import Reason
from stage3_service.plan.limits import PlanLimits
from stage3_service.plan.parse import PlanInvalid, RawPlan, RawStep, parse_plan
from tests.harness.stage3 import Stage3UnderTest
from tests.harness.stage3 import step as plan_step
from tests.unit.stage3.grants import catalogue, step, token

# Names that somebody, or some comparison, could take for `text` or `upper`.
LOOK_ALIKES = {
    "cyrillic": ("tеxt", "uрper"),
    "greek": ("τext", "υpper"),
    "full width": ("ｔｅｘｔ", "ｕｐｐｅｒ"),
    "mathematical": ("𝐭𝐞𝐱𝐭", "𝐮𝐩𝐩𝐞𝐫"),
    "combining": ("te\u0301xt", "u\u0308pper"),
    "zero width space": ("te\u200bxt", "up\u200bper"),
    "zero width joiner": ("text\u200d", "upper\u200d"),
    "soft hyphen": ("te\u00adxt", "up\u00adper"),
    "right to left": ("\u202etext", "\u202eupper"),
    "byte order mark": ("\ufefftext", "\ufeffupper"),
    "variation selector": ("text\ufe0f", "upper\ufe0f"),
    "long s": ("teẋt", "uppeṛ"),
}
CASES = {
    "capital": ("Text", "Upper"),
    "upper case": ("TEXT", "UPPER"),
    "mixed": ("tExT", "uPpEr"),
    "dotless": ("tıxt", "ıpper"),
}
PREFIXES = {
    "prefix": ("tex", "uppe"),
    "longer": ("texts", "uppers"),
    "suffix": ("ext", "pper"),
    "joined": ("text_", "upper_"),
    "child": ("text.sub", "upper.sub"),
    "path": ("text/upper", "upper/../lower"),
    "qualified": ("default.text", "text.upper"),
    "empty": ("", ""),
}
PATTERNS = {
    "star": ("*", "*"),
    "prefix star": ("te*", "up*"),
    "question": ("te?t", "up?er"),
    "class": ("te[x]t", "up[p]er"),
    "regex": ("t.xt", "u..er"),
    "anything": (".*", ".*"),
    "alternatives": ("text|notebook", "upper|lower"),
    "list": ("text,notebook", "upper,lower"),
    "sql": ("te%t", "up%r"),
    "sql one": ("te_t", "up_er"),
    "braces": ("{text}", "{upper}"),
    "negation": ("!notebook", "!lower"),
}
PADDING = {
    "space before": (" text", " upper"),
    "space behind": ("text ", "upper "),
    "line break": ("text\n", "upper\n"),
    "null": ("text\x00", "upper\x00"),
    "no-break space": ("text\u00a0", "upper\u00a0"),
    "tab": ("text\t", "upper\t"),
}
EVERYTHING = {
    f"{kind}: {name}": pair
    for kind, group in (
        ("look-alike", LOOK_ALIKES),
        ("case", CASES),
        ("prefix", PREFIXES),
        ("pattern", PATTERNS),
        ("padding", PADDING),
    )
    for name, pair in group.items()
}
DOMAINS = [pytest.param(pair[0], id=name) for name, pair in EVERYTHING.items()]
METHODS = [pytest.param(pair[1], id=name) for name, pair in EVERYTHING.items()]


def declare_as_if(domain: str, method: str) -> Any:
    """Return a catalogue that declares any name, so that only the scope can refuse it."""

    class Anything:
        @property
        def domains(self) -> dict[str, object]:
            return {domain: self}

        def method(self, domain: str, method: str) -> Any:
            return catalogue().method("text", "upper")

        def withholds(self, domain: str) -> bool:
            return False

    return Anything()


def first_refusal(raw_step: RawStep) -> object:
    """Return where parsing refuses a plan of one step, or why gate 2 does, or None."""
    raw = RawPlan("alice", "t", "manual", (raw_step,), None)
    try:
        plan = parse_plan(raw, PlanLimits())
    except PlanInvalid as invalid:
        return invalid.path
    denial = decide_scope(token(), plan.steps[0], catalogue())
    return denial and denial.reason


class TestDomainsAreExact:
    """Only the very string in `domain_scope` is in scope."""

    @pytest.mark.parametrize("domain", DOMAINS)
    def test_whatever_resembles_a_domain_is_not_in_scope(self, domain: str) -> None:
        """Even if it were declared."""
        denial = decide_scope(token(), step(domain, "upper"), declare_as_if(domain, "upper"))
        assert denial == Denial(DenialReason.DOMAIN_NOT_IN_SCOPE, 0)

    @pytest.mark.parametrize("domain", DOMAINS)
    def test_whatever_resembles_a_domain_passes_no_door(self, domain: str) -> None:
        """Most of it is no name at all and is refused before any gate; the rest has no scope."""
        assert first_refusal(RawStep(domain, "upper", b"{}")) in {
            "steps[0].domain",
            DenialReason.DOMAIN_NOT_IN_SCOPE,
        }

    def test_the_domain_itself_is_in_scope(self) -> None:
        """The control: the exact name passes."""
        assert decide_scope(token(), step("text", "upper"), catalogue()) is None


class TestMethodsAreExact:
    """Only the very strings in `method_scope` are in scope."""

    @pytest.mark.parametrize("method", METHODS)
    def test_whatever_resembles_a_method_is_not_in_scope(self, method: str) -> None:
        """Even if it were declared."""
        denial = decide_scope(token(), step("text", method), declare_as_if("text", method))
        assert denial == Denial(DenialReason.METHOD_NOT_IN_SCOPE, 0)

    @pytest.mark.parametrize("method", METHODS)
    def test_whatever_resembles_a_method_passes_no_door(self, method: str) -> None:
        """Most of it is no name at all and is refused before any gate; the rest has no scope."""
        assert first_refusal(RawStep("text", method, b"{}")) in {
            "steps[0].method",
            DenialReason.METHOD_NOT_IN_SCOPE,
        }

    def test_every_granted_method_passes(self) -> None:
        """The control: every pair of the grant."""
        granted = token()
        for domain, methods in granted.method_scope.items():
            for method in methods:
                assert decide_scope(granted, step(domain, method), catalogue()) is None


class TestScopeIsExplicit:
    """A domain in scope grants no method; a method grants no domain."""

    def test_a_domain_without_methods_permits_none(self) -> None:
        """`domain_scope` alone opens nothing."""
        granted = token(method_scope=(("notebook", ("append_note",)),))
        denial = decide_scope(granted, step("text", "upper"), catalogue())
        assert denial == Denial(DenialReason.METHOD_NOT_IN_SCOPE, 0)

    def test_a_method_of_another_domain_is_not_permitted(self) -> None:
        """Methods are looked up under their own domain."""
        declared = catalogue(text=("upper", "append_note"), notebook=("append_note",))
        denial = decide_scope(token(), step("text", "append_note"), declared)
        assert denial == Denial(DenialReason.METHOD_NOT_IN_SCOPE, 0)

    def test_a_declared_domain_outside_the_scope_is_refused(self) -> None:
        """Declaring grants nothing."""
        declared = catalogue(text=("upper",), ledger=("post",))
        denial = decide_scope(token(), step("ledger", "post"), declared)
        assert denial == Denial(DenialReason.DOMAIN_NOT_IN_SCOPE, 0)

    def test_a_declared_method_outside_the_scope_is_refused(self) -> None:
        """Declaring grants nothing."""
        denial = decide_scope(token(), step("text", "reverse"), catalogue(text=("reverse",)))
        assert denial == Denial(DenialReason.METHOD_NOT_IN_SCOPE, 0)

    @given(domain=st.text(), method=st.text())
    def test_only_granted_pairs_pass(self, domain: str, method: str) -> None:
        """For any two texts, the gate passes exactly the pairs of the grant."""
        granted = token()
        passes = decide_scope(granted, step(domain, method), declare_as_if(domain, method)) is None
        pairs = {("text", "upper"), ("text", "lower"), ("notebook", "append_note")}
        assert passes == ((domain, method) in pairs)

    @given(
        domain=st.sampled_from(["text", "notebook", "ledger"]),
        method=st.sampled_from(["upper", "lower", "append_note", "post"]),
        grants=st.dictionaries(
            st.sampled_from(["text", "notebook", "ledger"]),
            st.sets(st.sampled_from(["upper", "lower", "append_note", "post"]), min_size=1),
            min_size=1,
        ),
    )
    def test_any_grant_permits_exactly_its_pairs(
        self, domain: str, method: str, grants: dict[str, set[str]]
    ) -> None:
        """Against the plainest possible reading of the grant."""
        granted = token(
            domain_scope=tuple(grants),
            method_scope=tuple((name, tuple(sorted(methods))) for name, methods in grants.items()),
        )
        passes = decide_scope(granted, step(domain, method), declare_as_if(domain, method)) is None
        assert passes == (method in grants.get(domain, set()))


class TestOrder:
    """Domain before method, scope before declaration."""

    @pytest.mark.parametrize(
        ("domain", "method", "reason", "public"),
        [
            ("ghost", "ghost", DenialReason.DOMAIN_NOT_IN_SCOPE, Reason.DOMAIN_NOT_IN_SCOPE),
            ("text", "ghost", DenialReason.METHOD_NOT_IN_SCOPE, Reason.METHOD_NOT_IN_SCOPE),
            ("notebook", "append_note", DenialReason.DOMAIN_UNKNOWN, Reason.DOMAIN_UNKNOWN),
            ("text", "lower", DenialReason.METHOD_UNDECLARED, Reason.METHOD_UNDECLARED),
        ],
    )
    def test_the_first_failing_question_is_the_answer(
        self, domain: str, method: str, reason: DenialReason, public: Reason
    ) -> None:
        """A token out of scope does not learn what is declared."""
        denial = decide_scope(token(), step(domain, method, index=5), catalogue(text=("upper",)))
        assert denial == Denial(reason, 5)
        assert denial.public is public
        assert denial.gate is GateName.SCOPE


class TestAtTheDoor:
    """The same, of a running service: one step out of scope stops the whole plan."""

    UPPER = plan_step("text", "upper", text="a")

    @pytest.mark.parametrize(
        ("domain", "method", "reason"),
        [
            ("notebook", "append_note", "DOMAIN_NOT_IN_SCOPE"),
            ("tex", "upper", "DOMAIN_NOT_IN_SCOPE"),
            ("texts", "upper", "DOMAIN_NOT_IN_SCOPE"),
            ("text", "lower", "METHOD_NOT_IN_SCOPE"),
            ("text", "uppe", "METHOD_NOT_IN_SCOPE"),
            ("text", "upper_", "METHOD_NOT_IN_SCOPE"),
            ("Text", "upper", "PLAN_INVALID"),
            ("tеxt", "upper", "PLAN_INVALID"),
            ("text", "*", "PLAN_INVALID"),
            ("text", "upper\u200b", "PLAN_INVALID"),
        ],
    )
    def test_a_forbidden_last_step_leaves_no_effect_of_the_first(
        self, stage3: Stage3UnderTest, domain: str, method: str, reason: str
    ) -> None:
        """All steps are asked about before any of them starts."""
        credential = stage3.issue(scope={"text": ("upper",)}).token_hash
        answer = stage3.run(credential, self.UPPER, plan_step(domain, method, text="a"))
        assert (answer.kind, answer.reason) == ("refused", reason)
        assert stage3.events(event_type="EXECUTION_STARTED") == []
        if reason != "PLAN_INVALID":
            (event,) = stage3.events(event_type="AUTHORIZATION_SCOPE_CHECK")
            assert (event["status"], event["step"]) == ("denied", 1)

    def test_what_is_in_scope_but_not_declared_is_refused(self, stage3: Stage3UnderTest) -> None:
        """A token cannot declare a domain or a method into being."""
        scope = {"text": ("upper", "ghost"), "ledger": ("post",)}
        credential = stage3.issue(scope=scope).token_hash
        assert stage3.run(credential, plan_step("text", "ghost")).reason == "METHOD_UNDECLARED"
        assert stage3.run(credential, plan_step("ledger", "post")).reason == "DOMAIN_UNKNOWN"
        assert stage3.run(credential, self.UPPER).kind == "completed"
