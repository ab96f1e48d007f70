"""A preview as the document that `--json` prints, and as what a person reads before approving.

Everything in it is somebody else's text: it is shown, never obeyed. Deliberately absent: a short
form of the digest. What is approved is approved whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from servicekit.cli.output import count, print_facts, print_table, say, shorten
from stage4_service.plan_validator import render_path
from stage4_service.preview.declared_parameters import declared_parameters, is_closed

if TYPE_CHECKING:
    from pathlib import Path

    from servicekit.store.log_verifier import LogVerifier
    from stage4_service.preview.catalogue import Catalogue
    from stage4_service.preview.preview_plan import Open, Preview, Problem, Source, StepPreview

_VALUE_CHARACTERS: Final = 120
"""Of a parameter in a table; --json has all of it."""
_NAME_CHARACTERS: Final = 64
"""Of a parameter's name; `render_path` shows no more of it."""


def preview_document(
    preview: Preview, catalogue: Catalogue, file: Path, verifier: LogVerifier
) -> dict[str, object]:
    """Return the one document of a preview; its names are stable."""
    return {
        "plan_digest": preview.digest,
        "fits": not preview.problems,
        "user_id": preview.user_id,
        "trigger_type": preview.trigger_type,
        "catalogue": {
            "file": str(file),
            "digest": catalogue.digest,
            "exported_at": catalogue.exported_at,
            "origin": catalogue.origin,
            "tree_size": catalogue.tree_size,
            "root": catalogue.root,
            "signed_by": _signer(verifier),
        },
        "max_duration_ms": preview.max_duration_ms,
        "max_response_bytes": preview.max_response_bytes,
        "steps": [_step_document(step) for step in preview.steps],
        "unknown": [_open_document(each) for each in preview.unknown],
    }


def print_preview(
    preview: Preview, catalogue: Catalogue, file: Path, verifier: LogVerifier
) -> None:
    """Print a preview for people, the digest last."""
    print_facts(
        {
            "catalogue": str(file),
            "exported_at": catalogue.exported_at,
            "signed_by": _signer(verifier),
            "checkpoint": f"{catalogue.tree_size}:{catalogue.root}",
            "catalogue_digest": catalogue.digest,
            "user_id": preview.user_id,
            "trigger_type": preview.trigger_type,
        }
    )
    cut = False
    for step in preview.steps:
        say("")
        cut = _print_step(step) or cut
    say("")
    say("Not known before it runs:")
    for each in preview.unknown:
        say(f"  {each.description}")
    say("")
    if cut:
        say("A value was cut; --json shows all of it.")
    print_facts(
        {
            "steps": len(preview.steps),
            "at most": _at_most(preview),
            "plan_digest": preview.digest,
        }
    )
    if preview.problems:
        say(f"Stage-3 would refuse it: {count(len(preview.problems), 'problem')}, named above.")
    else:
        say("A token issued with --plan-digest and this digest executes this plan and no other.")


def _signer(verifier: LogVerifier) -> str:
    return f"{verifier.name}+{verifier.key_id.hex()}"


def _at_most(preview: Preview) -> str | None:
    if preview.max_duration_ms is None or preview.max_response_bytes is None:
        return None
    return f"{preview.max_duration_ms / 1000:g} s, {preview.max_response_bytes} B"


def _print_step(step: StepPreview) -> bool:
    """Print one step; return whether something of it was cut."""
    method, domain = step.declared, step.declared_domain
    facts: dict[str, object] = {f"step {step.index}": f"{step.domain}.{step.method}"}
    if domain is not None:
        accepted = f", accepted {domain.accepted_digest}" if domain.accepted_digest else ""
        facts["domain"] = f"{domain.adapter}{accepted}{'' if domain.offered else ', withheld'}"
    if method is not None:
        facts["does"] = method.description
        facts["limits"] = f"{method.max_duration_ms / 1000:g} s, {method.max_response_bytes} B"
        facts["on repetition"] = method.repetition
        facts["other parameters"] = _others(step)
    print_facts(facts)
    rows = list(_rows(step))
    shown = [
        # In backticks where it could be taken for another cell's words.
        (render_path((name,)), declared, shorten(value, _VALUE_CHARACTERS))
        for name, declared, value in rows
    ]
    if rows:
        print_table(("parameter", "declared", "value"), shown)
    for problem in step.problems:
        say(f"  refused: {problem.reason}: {problem.path} {problem.description}")
    for each in step.unknown:
        say(f"  not known: {each.path}: {each.description}")
    return any(
        len(name) > _NAME_CHARACTERS or len(value) > _VALUE_CHARACTERS for name, _, value in rows
    )


def _others(step: StepPreview) -> str | None:
    if step.declared is None:
        return None
    schema = step.declared.parameters_schema
    if schema is None:
        return "no schema is declared"
    return "refused" if is_closed(schema) else "as the whole schema says"


def _rows(step: StepPreview) -> Iterator[tuple[str, str, str]]:
    schema = None if step.declared is None else step.declared.parameters_schema
    declared = {each.name: each for each in declared_parameters(schema or {})}
    bound = [source.parameter for source in step.sources]
    for name in dict.fromkeys((*declared, *step.parameters, *bound)):
        parameter = declared.get(name)
        words = "" if parameter is None else " or ".join(parameter.types)
        if parameter is not None:
            words += (", " if words else "") + ("required" if parameter.required else "optional")
        # What replaces a value stands before it, where nothing is cut.
        values = [_flow(source) for source in step.sources if source.parameter == name]
        if name in step.parameters:
            values.append(json.dumps(step.parameters[name], ensure_ascii=False))
        yield name, words, "; ".join(values)


def _flow(source: Source) -> str:
    must = f", must be {source.expected_type}" if source.expected_type else ""
    into = f" into {source.target_path}" if source.target_path != source.parameter else ""
    return f"from step {source.source_step}: {source.source_path}{into}{must}"


def _step_document(step: StepPreview) -> dict[str, object]:
    domain, method = step.declared_domain, step.declared
    return {
        "step": step.index,
        "domain": step.domain,
        "method": step.method,
        "parameters": step.parameters,
        "bindings": [
            {
                "source_step": source.source_step,
                "source_path": source.source_path,
                "target_path": source.target_path,
                "expected_type": source.expected_type,
            }
            for source in step.sources
        ],
        "declared": None
        if domain is None or method is None
        else {
            "adapter": domain.adapter,
            "offered": domain.offered,
            "accepted_digest": domain.accepted_digest,
            "description": method.description,
            "max_duration_ms": method.max_duration_ms,
            "max_response_bytes": method.max_response_bytes,
            "repetition": method.repetition,
            "parameters_schema": method.parameters_schema,
        },
        "problems": [_problem_document(problem) for problem in step.problems],
        "unknown": [_open_document(each) for each in step.unknown],
    }


def _problem_document(problem: Problem) -> dict[str, object]:
    return {
        "reason": problem.reason.value,
        "path": problem.path,
        "description": problem.description,
    }


def _open_document(each: Open) -> dict[str, object]:
    return {"what": each.what.value, "path": each.path, "description": each.description}
