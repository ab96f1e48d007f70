"""What an operator types at a running Stage-3, and what programs read."""

import re
import stat
from pathlib import Path

from tests.component.cli.conftest import CommandLine

TOKEN = re.compile(r"token_[A-Za-z0-9_-]{43}")
ISSUE = ("stage3", "token", "issue", "--user", "operations", "--allow", "text:upper")


def tokens(command: CommandLine) -> list[str]:
    """Return the references of all tokens."""
    found = command.document("stage3", "token", "list", "--limit", "500")["tokens"]
    assert isinstance(found, list)
    return [token["token_id"] for token in found]


def test_status_is_one_document(command: CommandLine) -> None:
    """A program learns whether steps may start, and why not."""
    status = command.document("stage3", "status")

    assert list(status) == [
        *("serving", "halt_reason", "halt_time", "version", "tree_size", "plans_running")
    ]
    assert status["serving"] is True


def test_a_credential_is_shown_once(command: CommandLine) -> None:
    """`issue` prints it; `show`, `list` and the log have the public reference only."""
    issued = command.document(*ISSUE, "--client", "demo")
    token, credential = issued["token"], str(issued["token_hash"])
    assert isinstance(token, dict)
    assert TOKEN.fullmatch(credential)

    shown = command("stage3", "token", "show", token["token_id"])
    listed = command("stage3", "token", "list", "--json")
    logged = command("stage3", "audit", "list", "--token", token["token_id"], "--json")

    for done in (shown, listed, logged):
        assert done.returncode == 0
        assert token["token_id"] in done.stdout
        assert credential not in done.stdout + done.stderr


def test_output_keeps_the_credential_off_the_screen(command: CommandLine, tmp_path: Path) -> None:
    """With --output the credential is in a new file of mode 0600, and nowhere else."""
    file = tmp_path / "new.token"

    done = command(*ISSUE, "--client", "demo", "--output", file)

    assert done.returncode == 0
    assert TOKEN.search(done.stdout + done.stderr) is None
    assert TOKEN.fullmatch(file.read_text().strip())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_token_is_issued_when_its_file_is_taken(command: CommandLine, tmp_path: Path) -> None:
    """A credential that could not be kept would be lost: the file is made first."""
    file = tmp_path / "taken"
    file.write_text("something else\n")
    before = tokens(command)

    code, error = command.error(*ISSUE, "--client", "demo", "--output", file)

    assert (code, error["reason"]) == (1, "FILE_EXISTS")
    assert file.read_text() == "something else\n"
    assert tokens(command) == before


def test_a_refused_token_leaves_no_file(command: CommandLine, tmp_path: Path) -> None:
    """Nothing was issued, so nothing pretends that it was."""
    file = tmp_path / "new.token"

    code, error = command.error(
        *("stage3", "token", "issue", "--user", "stage3", "--allow", "text:upper"),
        *("--client", "demo", "--output", file),
    )

    assert (code, error["reason"]) == (1, "REQUEST_INVALID")
    assert "user_id" in str(error["message"])
    assert not file.exists()


def test_a_token_says_what_it_grants(command: CommandLine) -> None:
    """Every option arrives in the token, under a stable name."""
    issued = command.document(
        *ISSUE, "--allow", "notebook:append_note,list_notes", "--client", "demo"
    )
    token = issued["token"]
    assert isinstance(token, dict)

    assert token["state"] == "active"
    assert token["method_scope"] == {"text": ["upper"], "notebook": ["append_note", "list_notes"]}
    assert token["client_identities"] == ["spiffe://dev.test/client/demo"]
    assert token["allowed_trigger_types"] == ["manual"]
    assert token["plan_digest"] is None

    limited = command.document(
        *(*ISSUE, "--bearer", "--trigger", "scheduled", "--max-invocations", "3"),
        *("--max-frequency", "2 per 60 seconds", "--plan-digest", "ab" * 32, "--lifetime", "60"),
    )["token"]
    assert isinstance(limited, dict)
    assert limited["bearer"] is True
    assert limited["plan_digest"] == "ab" * 32
    assert limited["resource_limits"] == {
        "max_invocations": 3,
        "max_frequency": "2 per 60 seconds",
        "max_response_bytes": None,
        "max_total_response_bytes": None,
    }


def test_a_scope_names_its_methods(command: CommandLine) -> None:
    """Nothing stands for all methods, and the command line says so before it calls."""
    code, error = command.error(
        "stage3", "token", "issue", "--user", "operations", "--allow", "text", "--client", "demo"
    )

    assert (code, error["reason"]) == (2, "USAGE")
    assert "names no method" in str(error["message"])


def test_revoking_is_immediate_and_may_be_repeated(command: CommandLine) -> None:
    """The second time says that it was revoked before."""
    token = command.document(*ISSUE, "--client", "demo")["token"]
    assert isinstance(token, dict)
    revoke = ("stage3", "token", "revoke", token["token_id"], "--reason", "a test")

    first, second = command.document(*revoke), command.document(*revoke)

    assert first["already_revoked"] is False
    assert second["already_revoked"] is True
    assert first["steps_in_flight"] == []
    assert command.document("stage3", "token", "show", token["token_id"])["state"] == "revoked"


def test_an_unknown_token_is_named_as_such(command: CommandLine) -> None:
    """The error says where to look."""
    code, error = command.error("stage3", "token", "show", "tok_" + "0" * 32)

    assert (code, error["reason"]) == (1, "TOKEN_NOT_FOUND")


def test_halt_and_resume(command: CommandLine) -> None:
    """Both say whether they changed anything."""
    assert command.document("stage3", "halt", "--reason", "test")["already_halted"] is False
    try:
        status = command.document("stage3", "status")
        assert status["serving"] is False
        assert status["halt_reason"] == "operator"
        assert command.document("stage3", "halt", "--reason", "test")["already_halted"] is True
    finally:
        resumed = command.document("stage3", "resume", "--reason", "test")
    assert resumed["already_serving"] is False
    assert command.document("stage3", "resume", "--reason", "test")["already_serving"] is True


def test_status_says_who_halted_it_and_why(command: CommandLine) -> None:
    """In the words that were given, and that a second halt changed nothing."""
    command("stage3", "halt", "--reason", "a note for the others")
    try:
        status = command("stage3", "status").stdout
        again = command("stage3", "halt", "--reason", "another")
    finally:
        command("stage3", "resume", "--reason", "test")

    assert "a note for the others" in status
    assert re.search(r"(?m)^halted_by +operator *$", status)
    assert "already halted; nothing changed" in again.stdout


def test_a_list_of_everything_says_whose_each_line_is(
    command: CommandLine, token_file: Path
) -> None:
    """Each line has the end of its plan's identifier, and below is which, whose and by whom."""
    plan = Path(__file__).resolve().parents[3] / "examples" / "plans" / "first.json"
    plan_id = str(
        command.document("stage4", "plan", "run", plan, "--token-file", token_file)["plan_id"]
    )

    everything = command("stage3", "audit", "list", "--type", "TOKEN_VALIDATION").stdout
    one = command("stage3", "audit", "list", "--plan", plan_id).stdout

    assert re.search(rf"TOKEN_VALIDATION .*…{plan_id[-7:]}", everything)
    assert re.search(rf"…{plan_id[-7:]} +{plan_id} +operations +client/demo", everything)
    assert "…" not in one


def test_a_type_that_no_event_has_is_refused(command: CommandLine) -> None:
    """`0 events` would read as if it had never happened."""
    code, error = command.error("stage3", "audit", "list", "--type", "TOKEN_REVOKD")

    assert (code, error["reason"]) == (2, "USAGE")
    assert "did you mean TOKEN_REVOKED?" in str(error["message"])
    assert "BOUNDARY_VIOLATION" in str(error["advice"])


def test_a_profile_for_the_other_service_is_told_as_that(command: CommandLine) -> None:
    """Nothing is sent to a service that would have to refuse and record it."""
    pair = command.pair

    at_stage3 = command.error("stage3", "status", "--profile", pair.demo_profile)
    at_stage4 = command.error("stage4", "plan", "list", "--profile", pair.operator_profile)

    for (code, error), service in ((at_stage3, "stage4"), (at_stage4, "stage3")):
        assert (code, error["reason"]) == (78, "PROFILE_MISMATCH")
        assert f"a profile for {service}" in str(error["message"])


def test_a_missing_profile_is_one_line(command: CommandLine, tmp_path: Path) -> None:
    """It says which file, and that a relative path begins here."""
    code, error = command.error("stage3", "status", "--profile", tmp_path / "none.toml")

    assert (code, error["reason"]) == (78, "PROFILE_MISSING")
    assert "there is no such file" in str(error["message"])
    assert error["problems"] == []


def test_flags_take_no_value_in_the_help(command: CommandLine) -> None:
    """What is shown as a place for a value would be typed."""
    for words in (("stage3",), ("stage3", "token"), ("stage3", "token", "issue"), ("stage4",)):
        shown = command(*words, "--help")
        assert shown.returncode == 0
        assert "--help" in shown.stdout
        assert "bool" not in shown.stdout


def test_domains_are_listed_with_their_promises(command: CommandLine) -> None:
    """A program learns every method, its limits and its schema."""
    domains = command.document("stage3", "domain", "list")["domains"]
    assert isinstance(domains, list)

    assert [domain["name"] for domain in domains] == [
        *("text", "notebook", "hashing", "json_schema", "dates", "units")
    ]
    assert list(domains[0]["methods"][0]) == [
        *("name", "description", "max_duration_ms", "max_response_bytes", "repetition"),
        *("parameters_schema", "example"),
    ]


def test_a_domain_is_described_with_an_example(command: CommandLine) -> None:
    """Any operator sees what to write and what comes of it; an unknown name is refused."""
    described = command.document("stage3", "domain", "describe", "units")
    shown = command("stage3", "domain", "describe", "units")
    code, error = command.error("stage3", "domain", "describe", "unites")

    assert described["shown"] is None
    domain = described["domain"]
    assert isinstance(domain, dict)
    example = domain["methods"][0]["example"]
    assert example["output"] == {"value": "42.1648128", "unit": "km"}
    assert "units.convert_rounded" in shown.stdout
    assert "328.08" in shown.stdout
    assert (code, error["reason"]) == (1, "DOMAIN_UNKNOWN")


def test_what_is_in_this_process_is_not_accepted(command: CommandLine) -> None:
    """A builtin domain has no definition of its own to drift."""
    code, error = command.error("stage3", "domain", "accept", "text", "--digest", "0" * 64)

    assert (code, error["reason"]) == (1, "REQUEST_INVALID")


def test_events_are_listed_whole(command: CommandLine) -> None:
    """What a program reads is what the leaf of the tree says."""
    command.document(*ISSUE, "--client", "demo")

    events = command.document("stage3", "audit", "list", "--type", "TOKEN_ISSUED", "--limit", "1")
    found = events["events"]
    assert isinstance(found, list)

    assert len(found) == 1
    assert found[0]["event_type"] == "TOKEN_ISSUED"
    assert {"v", "seq", "timestamp", "additional_data"} <= set(found[0])


def test_another_callers_certificate_is_told_what_to_use(
    command: CommandLine, tmp_path: Path
) -> None:
    """A client at the operators' door is refused by the service, with the next step."""
    certificates = command.pair.certificates
    profile = tmp_path / "client-as-operator.toml"
    text = command.pair.operator_profile.read_text()
    profile.write_text(
        text.replace('"ca.crt"', f'"{certificates}/ca.crt"').replace(
            '"operator.', f'"{certificates}/demo.'
        )
    )

    code, error = command.error("stage3", "status", "--profile", profile)

    assert (code, error["reason"]) == (1, "METHOD_NOT_PERMITTED")
    assert "profile" in str(error["advice"])
    assert "demo.crt" in str(error["advice"])


def test_a_foreign_certificate_reaches_nobody(command: CommandLine, tmp_path: Path) -> None:
    """A caller of another authority is told that, and not about sockets."""
    command.pair.run("stage3", "certs", "init", tmp_path / "foreign")

    code, error = command.error(
        *("stage3", "status", "--profile", tmp_path / "foreign" / "operator.toml"),
        *("--address", command.pair.stage3_addresses["operators"]),
    )

    assert (code, error["reason"]) == (69, "UNREACHABLE")
    assert "does not take this certificate" in str(error["message"])


def test_a_missing_certificate_is_named(command: CommandLine, tmp_path: Path) -> None:
    """The file is named, and what to do about it."""
    profile = tmp_path / "lonely.toml"
    profile.write_text(command.pair.operator_profile.read_text())

    code, error = command.error("stage3", "status", "--profile", profile)

    assert (code, error["reason"]) == (78, "CREDENTIAL_REFUSED")
    assert str(tmp_path / "operator.crt") in str(error["message"])


def test_a_misspelled_profile_is_refused_with_a_suggestion(
    command: CommandLine, tmp_path: Path
) -> None:
    """A profile is settings like any other."""
    profile = tmp_path / "odd.toml"
    profile.write_text(
        command.pair.operator_profile.read_text().replace("server_name", "servername")
    )

    code, error = command.error("stage3", "status", "--profile", profile)

    assert (code, error["reason"]) == (78, "SETTINGS_REFUSED")
    assert "did you mean server_name?" in str(error["problems"])


def test_nobody_listens(command: CommandLine) -> None:
    """Nothing was sent, and the advice is how to start the service."""
    code, error = command.error("stage3", "status", "--address", "127.0.0.1:1")

    assert (code, error["reason"]) == (69, "UNREACHABLE")
    assert "nothing listens at 127.0.0.1:1" in str(error["message"])
    assert "stage3 serve" in str(error["advice"])
