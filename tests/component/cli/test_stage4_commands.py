"""What a client types at a running Stage-4, and what programs read."""

import json
import os
from pathlib import Path

import pytest

from examples.local_pair import LocalPair
from stage4_service.cli.advice import advice_for
from stage4_service.cli.plan_file import fill_token
from tests.component.cli.conftest import CommandLine, run_offline, run_unprivileged

PLANS = Path(__file__).resolve().parents[3] / "examples" / "plans"
FIRST = PLANS / "first.json"
TOKEN = "token_" + "A" * 43


def test_a_plan_runs(command: CommandLine, token_file: Path) -> None:
    """The result names the plan, its request and every step's output."""
    result = command.document("stage4", "plan", "run", FIRST, "--token-file", token_file)

    assert list(result) == [
        *("status", "plan_id", "request_id", "replay", "original_plan_id", "plan_digest"),
        "results",
    ]
    assert result["status"] == "completed"
    assert result["replay"] is False
    results = result["results"]
    assert isinstance(results, list)
    assert [step["step"] for step in results] == [0, 1, 2]
    assert results[0]["output"] == {"text": "THE FIRST NOTE OF THIS NOTEBOOK"}


def test_people_see_steps_and_no_token(command: CommandLine, token_file: Path) -> None:
    """A table, the identifiers, and nothing secret."""
    done = command("stage4", "plan", "run", FIRST, "--token-file", token_file)

    assert done.returncode == 0, done.stderr
    assert "notebook.append_note" in done.stdout
    assert "completed" in done.stdout
    assert token_file.read_text().strip() not in done.stdout + done.stderr


def test_the_token_may_come_from_the_environment(command: CommandLine, token_file: Path) -> None:
    """STAGEGATE_TOKEN serves where a file cannot."""
    token = token_file.read_text().strip()

    done = command("stage4", "plan", "run", FIRST, STAGEGATE_TOKEN=token)

    assert done.returncode == 0, done.stderr


def test_the_same_request_never_runs_twice(command: CommandLine, token_file: Path) -> None:
    """Resubmitting answers the stored outcome, and says so."""
    run = ("stage4", "plan", "run", FIRST, "--token-file", token_file, "--request-id", "twice")

    first, second = command.document(*run), command.document(*run)

    assert (first["replay"], second["replay"]) == (False, True)
    assert first["results"] == second["results"]
    assert (first["original_plan_id"], second["original_plan_id"]) == (None, first["plan_id"])
    assert "stored outcome" in command(*run).stdout


def test_a_refused_plan_says_why_and_what_next(command: CommandLine, token_file: Path) -> None:
    """Reason, identifiers, effects: everything a program needs to go on."""
    code, error = command.error(
        *("stage4", "plan", "run", PLANS / "outside_the_scope.json", "--token-file", token_file),
        *("--request-id", "outside"),
    )

    assert (code, error["reason"]) == (1, "DOMAIN_NOT_IN_SCOPE")
    assert error["request_id"] == "outside"
    assert error["effects"] == "none"
    assert str(error["plan_id"]).startswith("plan_")
    assert "ask an operator" in str(error["advice"])
    assert "of step 0" in str(error["message"]) or "of step 1" in str(error["message"])


def test_effects_that_stay_are_told(command: CommandLine, token_file: Path) -> None:
    """A plan that fails halfway says at which step, and that earlier effects remain."""
    plan = PLANS / "fails_halfway.json"

    done = command("stage4", "plan", "run", plan, "--token-file", token_file)

    assert done.returncode == 1
    assert "DOMAIN_FAILED" in done.stderr
    assert "step        1" in done.stderr
    # What a client may run: Stage-3's log is not his to read.
    assert "stage4 plan show plan_" in done.stderr
    assert "stage3 audit" not in done.stderr


def test_a_malformed_plan_is_sent_and_recorded(command: CommandLine, token_file: Path) -> None:
    """It is Stage-4's to refuse: the path of the first error, and a record."""
    code, error = command.error(
        *("stage4", "plan", "run", PLANS / "invalid_backward_binding.json"),
        *("--token-file", token_file),
    )

    assert (code, error["reason"]) == (1, "PLAN_INVALID")
    assert "data_bindings[0].target_step" in str(error["message"])
    events = command.document("stage4", "audit", "list", "--plan", str(error["plan_id"]))["events"]
    assert isinstance(events, list)
    assert [event["event_type"] for event in events] == ["plan_received", "execution_failed"]


def test_plans_and_events_can_be_read_again(command: CommandLine, token_file: Path) -> None:
    """`show`, `list` and the log tell of the same plan."""
    result = command.document("stage4", "plan", "run", FIRST, "--token-file", token_file)
    plan_id = str(result["plan_id"])

    shown = command.document("stage4", "plan", "show", plan_id)
    listed = command.document("stage4", "plan", "list", "--limit", "500")["plans"]
    events = command.document("stage4", "audit", "list", "--plan", plan_id)["events"]

    assert shown["state"] == "completed"
    assert shown["results"] == result["results"]
    assert isinstance(listed, list)
    assert plan_id in [plan["plan_id"] for plan in listed]
    assert isinstance(events, list)
    assert [event["event_type"] for event in events] == [
        *("plan_received", "execution_started", "execution_completed")
    ]


def test_an_auditor_reads_and_runs_nothing(command: CommandLine, token_file: Path) -> None:
    """The auditor's profile sees everybody's plans and may submit none."""
    auditor = ("--profile", command.pair.auditor_profile)

    assert command("stage4", "plan", "list", *auditor).returncode == 0
    code, error = command.error(
        "stage4", "plan", "run", FIRST, "--token-file", token_file, *auditor
    )

    assert (code, error["reason"]) == (1, "METHOD_NOT_PERMITTED")


def test_a_refused_caller_is_told_and_seen_by_the_auditor(
    command: CommandLine, tmp_path: Path
) -> None:
    """An operator is nobody at the clients' door; the auditor's table shows the record."""
    certificates = command.pair.certificates
    profile = tmp_path / "operator-as-client.toml"
    profile.write_text(
        command.pair.demo_profile.read_text()
        .replace('"ca.crt"', f'"{certificates}/ca.crt"')
        .replace('"demo.', f'"{certificates}/operator.')
    )

    code, error = command.error("stage4", "plan", "list", "--profile", profile)
    seen = command("stage4", "audit", "list", "--profile", command.pair.auditor_profile)

    assert (code, error["reason"]) == (1, "METHOD_NOT_PERMITTED")
    assert seen.returncode == 0, seen.stderr
    assert "caller_refused" in seen.stdout
    assert "caller operator/operator" in seen.stdout


def test_an_unknown_plan_is_not_found(command: CommandLine) -> None:
    """Another client's plan would get the same answer."""
    code, error = command.error("stage4", "plan", "show", "plan_of_nobody")

    assert (code, error["reason"]) == (1, "PLAN_NOT_FOUND")


def test_stage3_down_is_told_apart(tmp_path: Path) -> None:
    """Stage-4 is there, Stage-3 is not: nothing happened, and the advice is to start it."""
    token = tmp_path / "any.token"
    with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(TOKEN)
    with LocalPair(tmp_path / "pair") as pair:
        pair.make()
        pair.start_stage4({"STAGE4_STAGE3__ADDRESS": "127.0.0.1:1"})

        code, error = CommandLine(pair).error("stage4", "plan", "run", FIRST, "--token-file", token)

    assert (code, error["reason"]) == (1, "STAGE3_UNREACHABLE")
    assert error["effects"] == "none"
    assert "Start Stage-3" in str(error["advice"])


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (TOKEN, 0o644, "FILE_REFUSED"),
        ("hunter2", 0o600, "TOKEN_MALFORMED"),
        ("", 0o600, "TOKEN_MISSING"),
    ],
)
def test_a_token_file_is_judged_and_never_quoted(
    tmp_path: Path, content: str, mode: int, reason: str
) -> None:
    """One that others may read, that is no token, or that is empty is refused before any call."""
    file = tmp_path / "file"
    file.touch(mode=0o600)
    file.write_text(content)
    file.chmod(mode)

    done = run_offline("stage4", "plan", "run", FIRST, "--token-file", file)

    assert done.returncode in {2, 78}
    assert reason in done.stderr
    assert not content or content not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"manual",', '"manual",,', "not JSON at byte"),
        ('"manual",', '"manual", "trigger_type": "manual",', "trigger_type"),
        ('"trigger_type": "manual",', "", "trigger_type"),
        ("first note", "x" * 70_000, "65536"),
    ],
)
def test_an_invalid_plan_is_not_told_to_lack_the_placeholder(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    """`run` says what `validate` says, in the same words, and sends nothing."""
    token = tmp_path / "any.token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    plan = tmp_path / "plan.json"
    text = FIRST.read_text().replace(before, after)
    if before.startswith('"trigger'):
        text = text.replace("REPLACE_WITH_TOKEN", TOKEN)
    plan.write_text(text)

    validated = run_offline("stage4", "plan", "validate", plan)
    run = run_offline("stage4", "plan", "run", plan, "--token-file", token)

    assert (validated.returncode, run.returncode) == (1, 1)
    assert run.stderr == validated.stderr
    assert "PLAN_INVALID" in run.stderr
    assert words in run.stderr


def test_where_it_stops_being_json_is_told_by_line(tmp_path: Path) -> None:
    """A byte offset is for programs; people have editors."""
    plan = tmp_path / "plan.json"
    plan.write_text('{\n  "user_id": "é",\n  "steps": [,]\n}\n')

    done = run_offline("stage4", "plan", "validate", plan)

    assert "line 3, column 13" in done.stderr


def test_an_empty_request_identifier_is_refused() -> None:
    """It is an unset variable: a fresh identifier would run the plan again each time."""
    done = run_offline("stage4", "plan", "run", FIRST, "--request-id", "")

    assert done.returncode == 2
    assert "--request-id is empty" in done.stderr


def test_what_a_limit_does_next_is_told_for_both_kinds() -> None:
    """A frequency comes back by itself; the others need another token."""
    advice = advice_for("LIMIT_EXCEEDED", request_id="r", plan_id="p", effects="none")

    assert "regains by itself" in advice
    assert "new token" in advice


def test_a_first_step_has_none_before_it() -> None:
    """Advice speaks of earlier effects only where there can be some."""
    first, second = (
        advice_for("DOMAIN_FAILED", request_id="r", plan_id="p", effects="unknown", step=step)
        for step in (0, 1)
    )

    assert "before" not in first
    assert "those before stay" in second


def test_an_unreadable_plan_file_is_named(tmp_path: Path) -> None:
    """As a missing one: a sentence, and no box about usage."""
    plan = tmp_path / "plan.json"
    plan.touch(mode=0)

    done = run_unprivileged("stage4", "plan", "validate", plan)

    assert done.returncode == 1
    assert "FILE_REFUSED" in done.stderr


def test_identifiers_are_never_broken(command: CommandLine, token_file: Path) -> None:
    """On a narrow terminal too: they are there to be copied."""
    plan_id = str(
        command.document("stage4", "plan", "run", FIRST, "--token-file", token_file)["plan_id"]
    )
    tokens = command.document("stage3", "token", "list")["tokens"]
    assert isinstance(tokens, list)

    plans = command("stage4", "plan", "list", COLUMNS="80").stdout
    listed = command("stage3", "token", "list", COLUMNS="80").stdout

    assert plan_id in plans
    assert all(token["token_id"] in listed for token in tokens)


def test_shown_results_have_no_empty_column(command: CommandLine, token_file: Path) -> None:
    """`show` does not know what the steps called, and does not pretend to."""
    plan_id = command.document("stage4", "plan", "run", FIRST, "--token-file", token_file)[
        "plan_id"
    ]

    shown = command("stage4", "plan", "show", str(plan_id)).stdout

    assert "step  output" in shown
    assert "method" not in shown


def test_a_plan_needs_a_token() -> None:
    """Without one, nothing is sent; the advice names both ways to give it."""
    done = run_offline("stage4", "plan", "run", FIRST)

    assert done.returncode == 2
    assert "TOKEN_MISSING" in done.stderr
    assert "--token-file" in done.stderr
    assert "STAGEGATE_TOKEN" in done.stderr


def test_only_the_placeholder_changes() -> None:
    """Every other byte of the document, white space and a look-alike included, stays."""
    before = b'{ "x":"REPLACE_WITH_TOKEN",\n "token_hash" :\t"REPLACE_WITH_TOKEN" , "y":1.50}'

    after = fill_token(before, None, TOKEN)

    assert after == (
        b'{ "x":"REPLACE_WITH_TOKEN",\n "token_hash" :\t"' + TOKEN.encode() + b'" , "y":1.50}'
    )


@pytest.mark.parametrize(
    "plan", [b'{"token_hash":"mine"}', b'{"token_hash":1}', b"[]", b"not JSON", b"\xff"]
)
def test_a_document_without_the_placeholder_is_left_alone(plan: bytes) -> None:
    """A token of its own, or none that could be found: it is sent as it is."""
    assert fill_token(plan, None, TOKEN) == plan


def test_a_plan_is_validated_offline() -> None:
    """The verdict and the digest, for people and for programs."""
    done = run_offline("stage4", "plan", "validate", FIRST)
    as_json = run_offline("stage4", "plan", "validate", FIRST, "--json")

    assert done.returncode == as_json.returncode == 0
    verdict = json.loads(as_json.stdout)
    assert verdict["valid"] is True
    assert len(verdict["plan_digest"]) == 64
    assert verdict["plan_digest"] in done.stdout


def test_an_invalid_plan_is_told_its_first_error() -> None:
    """Exit code 1 and the path, for people on standard error, for programs in the document."""
    plan = PLANS / "invalid_backward_binding.json"

    done = run_offline("stage4", "plan", "validate", plan)
    as_json = run_offline("stage4", "plan", "validate", plan, "--json")

    assert done.returncode == as_json.returncode == 1
    assert "PLAN_INVALID: data_bindings[0].target_step" in done.stderr
    assert json.loads(as_json.stdout) == {
        "valid": False,
        "path": "data_bindings[0].target_step",
        "description": "must come after source_step",
        "plan_digest": None,
    }


def test_a_missing_plan_file_is_named() -> None:
    """The file system's word, and where plans are."""
    done = run_offline("stage4", "plan", "validate", "nowhere.json")

    assert done.returncode == 1
    assert "nowhere.json: No such file or directory" in done.stderr
