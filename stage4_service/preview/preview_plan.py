"""What a valid plan asks for, step by step, beside what a catalogue declares about it.

Guards an approval: the digest that is named is the one that both services compute when the plan is
executed, and what is not known is said as plainly as what is. A function of plan and catalogue:
the same two give the same preview, whenever it is asked. Deliberately absent: the credential.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from servicekit.ijson import JsonValue
from stage4_service.errors import Reason
from stage4_service.plan_document import PlanDocument
from stage4_service.plan_validator import render_path
from stage4_service.preview.catalogue import Catalogue, DeclaredDomain, DeclaredMethod
from stage4_service.preview.declared_parameters import certain_offences


class Unknown(StrEnum):
    """What cannot be known before the plan runs."""

    BOUND_VALUE = "bound_value"
    SCHEMA_WAITS = "schema_waits"
    SCHEMA_REST = "schema_rest"
    NO_SCHEMA = "no_schema"
    TOKEN = "token"
    LIMITS = "limits"
    REVOCATION = "revocation"
    CATALOGUE = "catalogue"
    DOMAINS = "domains"
    HALFWAY = "halfway"


@dataclass(frozen=True, slots=True)
class Open:
    """Something that is not known; `path` is the value of the plan that it is about, or empty."""

    what: Unknown
    path: str
    description: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that Stage-3 refuses for as long as it offers what the catalogue says."""

    reason: Reason
    path: str
    description: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where one value of a step's parameters comes from."""

    source_step: int
    source_path: str
    target_path: str
    expected_type: str | None

    @property
    def parameter(self) -> str:
        """Return the name of the parameter that it fills, or fills a part of."""
        return self._split_target[0]

    @property
    def parameter_type(self) -> str | None:
        """Return the one type that the parameter will have, or None where that is not said."""
        return None if self._split_target[1] else self.expected_type

    @property
    def _split_target(self) -> tuple[str, str]:
        if not self.target_path.startswith("`"):
            name, _, rest = self.target_path.partition(".")
            return name, rest
        # A valid path: the quote ends at the first backtick that is not doubled.
        name, _, rest = self.target_path[1:].replace("``", "\0").partition("`")
        return name.replace("\0", "`"), rest


@dataclass(frozen=True, slots=True)
class StepPreview:
    """One step: what is called with what, what is declared of it, and what is not known."""

    index: int
    domain: str
    method: str
    parameters: dict[str, JsonValue]
    sources: tuple[Source, ...]
    declared_domain: DeclaredDomain | None
    declared: DeclaredMethod | None
    problems: tuple[Problem, ...]
    unknown: tuple[Open, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """A plan beside a catalogue. `digest` is what is approved, in hexadecimal."""

    digest: str
    user_id: str
    trigger_type: str
    steps: tuple[StepPreview, ...]
    unknown: tuple[Open, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what is certainly refused, in the order of the steps."""
        return tuple(problem for step in self.steps for problem in step.problems)

    @property
    def max_duration_ms(self) -> int | None:
        """Return how long all steps together may take, or None where one is not declared."""
        durations = [step.declared.max_duration_ms for step in self.steps if step.declared]
        return sum(durations) if len(durations) == len(self.steps) else None

    @property
    def max_response_bytes(self) -> int | None:
        """Return how much all steps together may answer, or None where one is not declared."""
        sizes = [step.declared.max_response_bytes for step in self.steps if step.declared]
        return sum(sizes) if len(sizes) == len(self.steps) else None


_ALWAYS_UNKNOWN: Final = (
    (
        Unknown.TOKEN,
        "token_hash",
        "whether the token is accepted for this user, caller and trigger, and what it permits",
    ),
    (
        Unknown.LIMITS,
        "token_hash",
        "what is left of the token's invocations, frequency and bytes as each step starts",
    ),
    (
        Unknown.REVOCATION,
        "token_hash",
        "whether the token is revoked before the plan, or between two of its steps",
    ),
    (
        Unknown.CATALOGUE,
        "",
        "whether Stage-3 still offers what it offered when it exported this catalogue",
    ),
    (
        Unknown.DOMAINS,
        "",
        "whether a domain answers in its time, and what it answers",
    ),
)
_HALFWAY: Final = Open(
    Unknown.HALFWAY,
    "steps",
    "whether it ends half-way: a step is asked in its turn, and the effects of those before stay",
)


def preview_plan(document: PlanDocument, catalogue: Catalogue) -> Preview:
    """Return what is known of a valid plan before it runs, and what is not."""
    plan: dict[str, Any] = document.plan.copy()
    bindings = plan.get("data_bindings", [])
    return Preview(
        digest=document.digest.hex(),
        user_id=plan["user_id"],
        trigger_type=plan["trigger_type"],
        steps=tuple(
            _step(
                index,
                step,
                tuple(_source(each) for each in bindings if each["target_step"] == index),
                catalogue,
            )
            for index, step in enumerate(plan["steps"])
        ),
        unknown=(
            *(Open(*each) for each in _ALWAYS_UNKNOWN),
            *([_HALFWAY] if len(plan["steps"]) > 1 else []),
        ),
    )


def _source(binding: dict[str, Any]) -> Source:
    return Source(
        binding["source_step"],
        binding["source_path"],
        binding["target_path"],
        binding.get("expected_type"),
    )


def _step(
    index: int, step: dict[str, Any], sources: tuple[Source, ...], catalogue: Catalogue
) -> StepPreview:
    domain = catalogue.domains.get(step["domain"])
    method = None if domain is None else domain.methods.get(step["method"])
    return StepPreview(
        index=index,
        domain=step["domain"],
        method=step["method"],
        parameters=step["parameters"],
        sources=sources,
        declared_domain=domain,
        declared=method,
        problems=tuple(_problems(index, step, sources, domain, method)),
        unknown=tuple(_unknown(index, sources, method)),
    )


def _problems(
    index: int,
    step: dict[str, Any],
    sources: tuple[Source, ...],
    domain: DeclaredDomain | None,
    method: DeclaredMethod | None,
) -> Iterator[Problem]:
    if domain is None:
        path, description = render_path(("steps", index, "domain")), "is no domain of the catalogue"
        yield Problem(Reason.DOMAIN_UNKNOWN, path, description)
        return
    if method is None:
        path = render_path(("steps", index, "method"))
        yield Problem(Reason.METHOD_UNDECLARED, path, "is no method of this domain")
        return
    if not domain.offered:
        path = render_path(("steps", index, "domain"))
        yield Problem(Reason.METHOD_UNDECLARED, path, _withheld(domain))
    if method.parameters_schema is None:
        return
    filled: dict[str, str | None] = {}
    for source in sources:
        filled[source.parameter] = filled.get(source.parameter) or source.parameter_type
    for offence in certain_offences(method.parameters_schema, step["parameters"], filled):
        path = render_path(("steps", index, "parameters", offence.name))
        yield Problem(Reason.PARAMETERS_INVALID, path, offence.description)


def _withheld(domain: DeclaredDomain) -> str:
    if domain.accepted_digest is None:
        return "is withheld: no operator has accepted what it shows"
    if domain.shown_digest not in {None, domain.accepted_digest}:
        return "is withheld: it shows something else than what an operator has accepted"
    return "is withheld: what was accepted of it cannot be enforced"


def _unknown(
    index: int, sources: tuple[Source, ...], method: DeclaredMethod | None
) -> Iterator[Open]:
    parameters = render_path(("steps", index, "parameters"))
    for source in sources:
        must = f"; it must be {source.expected_type}" if source.expected_type else ""
        yield Open(
            Unknown.BOUND_VALUE,
            f"{parameters}.{source.target_path}",
            f"its value, its type and its size: step {source.source_step} answers it, at "
            f"{source.source_path}{must}",
        )
    if method is None:
        return
    if method.parameters_schema is None:
        yield Open(
            Unknown.NO_SCHEMA,
            parameters,
            "what the domain takes: no schema of it is declared",
        )
    elif sources:
        yield Open(
            Unknown.SCHEMA_WAITS,
            parameters,
            "whether they fit the schema: gate 4 asks once the bound values are there",
        )
    else:
        yield Open(
            Unknown.SCHEMA_REST,
            parameters,
            "whether they fit the whole schema, of which presence, names and simple types were "
            "asked here",
        )
