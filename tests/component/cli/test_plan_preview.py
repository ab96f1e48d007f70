"""`stage3 domain export` and `stage4 plan preview`, as they are typed and as programs read them."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from servicekit.store.log_verifier import LogVerifier
from servicekit.tlog.signed_document import open_document
from tests.component.cli.conftest import CommandLine, run_offline, run_unprivileged
from tests.harness.catalogues import FOREIGN_KEY, KEY, domain, method, signed_catalogue

PLANS = Path(__file__).resolve().parents[3] / "examples" / "plans"
FIRST = PLANS / "first.json"
PREVIEW = ("stage4", "plan", "preview")


@pytest.fixture(scope="session")
def exported(
    command: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    """Return the catalogue of the running pair, and what the export said."""
    file = tmp_path_factory.mktemp("catalogue") / "catalogue"
    return file, command.document("stage3", "domain", "export", "--output", file)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A catalogue by the tests' own key."""
    file = tmp_path / "catalogue"
    file.write_bytes(signed_catalogue())
    return file


def preview(plan: Path, catalogue: Path, *words: str, vkey: str = KEY.vkey) -> Any:
    """Preview a plan with no service, profile or settings about; return what the program did."""
    return run_offline(*PREVIEW, plan, "--catalogue", catalogue, "--vkey", vkey, *words)


def plan_of(directory: Path, *steps: dict[str, Any], **changes: Any) -> Path:
    """Write a plan of these steps."""
    file = directory / "plan.json"
    document = {
        "user_id": "operations",
        "token_hash": "REPLACE_WITH_TOKEN",
        "trigger_type": "manual",
        "steps": list(steps),
        **changes,
    }
    file.write_text(json.dumps(document))
    return file


def upper(**parameters: Any) -> dict[str, Any]:
    """Return a step that the tests' own catalogue declares."""
    return {"domain": "text", "method": "upper", "parameters": parameters}


def error_of(done: Any) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the error of a command that failed with --json."""
    assert done.stdout == ""
    return done.returncode, json.loads(done.stderr)["error"]


def test_the_catalogue_is_a_new_file_and_says_who_signed_it(
    command: CommandLine, exported: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    """For everybody to read; the key is the one of the log's checkpoint; nothing is replaced."""
    file, said = exported
    checkpoint = command.document(
        *("stage3", "audit", "checkpoint", "--config"), command.pair.stage3_config
    )

    assert list(said) == [
        *("catalogue", "catalogue_digest", "exported_at", "origin", "tree_size", "vkey")
    ]
    assert said["vkey"] == checkpoint["vkey"]
    assert stat.S_IMODE(file.stat().st_mode) & 0o444 == 0o444
    head, _ = open_document(
        file.read_bytes(), LogVerifier(str(said["vkey"])), max_document_bytes=1_000_000
    )
    assert str(said["exported_at"]) in head
    code, error = command.error("stage3", "domain", "export", "--output", file)
    assert (code, error["reason"]) == (1, "FILE_EXISTS")
    assert list(file.parent.iterdir()) == [file]
    code, error = command.error("stage3", "domain", "export", "--output", tmp_path / "a" / "b")
    assert (code, error["reason"]) == (1, "FILE_REFUSED")


def test_a_plan_is_previewed_and_then_runs_under_the_approved_digest(
    command: CommandLine, exported: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    """Export, preview, approve by digest, run; the digest is the one of the run."""
    file, said = exported
    previewed = command.document(*PREVIEW, FIRST, "--catalogue", file, "--vkey", str(said["vkey"]))
    assert previewed["fits"] is True
    digest = str(previewed["plan_digest"])
    token = tmp_path / "bound.token"
    command.document(
        *("stage3", "token", "issue", "--user", "operations", "--client", "demo"),
        *("--allow", "text:upper", "--allow", "notebook:append_note,list_notes"),
        *("--plan-digest", digest, "--max-invocations", "3", "--output", token),
    )

    run = command.document("stage4", "plan", "run", FIRST, "--token-file", token)

    assert run["plan_digest"] == digest
    code, error = command.error(
        "stage4", "plan", "run", PLANS / "single_step.json", "--token-file", token
    )
    assert (code, error["reason"]) == (1, "PLAN_NOT_BOUND")


def test_the_document_has_all_of_it(
    command: CommandLine, exported: tuple[Path, dict[str, object]]
) -> None:
    """Steps, bindings, declarations, what is not known, and where the catalogue is from."""
    file, said = exported
    words = (*PREVIEW, FIRST, "--catalogue", file, "--vkey", str(said["vkey"]))
    document: dict[str, Any] = command.document(*words)

    assert list(document) == [
        *("plan_digest", "fits", "user_id", "trigger_type", "catalogue"),
        *("max_duration_ms", "max_response_bytes", "steps", "unknown"),
    ]
    source = document["catalogue"]
    assert (source["digest"], source["exported_at"], source["tree_size"]) == (
        *(said["catalogue_digest"], said["exported_at"], said["tree_size"]),
    )
    _, note, _ = document["steps"]
    assert list(note) == [
        *("step", "domain", "method", "parameters", "bindings", "declared", "problems", "unknown")
    ]
    assert note["bindings"] == [
        {
            "source_step": 0,
            "source_path": "text",
            "target_path": "text",
            "expected_type": "string",
        }
    ]
    assert note["declared"]["repetition"] == "fencing"
    assert note["declared"]["parameters_schema"]["required"] == ["title", "text"]
    assert {each["what"] for each in document["unknown"]} >= {"token", "limits", "revocation"}
    assert "token_hash" not in note
    assert command(*words, "--json").stdout == command(*words, "--json").stdout


def test_people_read_where_each_value_comes_from(
    command: CommandLine, exported: tuple[Path, dict[str, object]]
) -> None:
    """The same words each time, the whole digest at the end."""
    file, said = exported
    words = (*PREVIEW, FIRST, "--catalogue", file)
    done = command(*words, STAGEGATE_VKEY=str(said["vkey"]))

    assert done.returncode == 0, done.stderr
    assert "notebook.append_note" in done.stdout
    assert "from step 0: text, must be string" in done.stdout
    assert "fencing" in done.stdout
    assert str(said["exported_at"]) in done.stdout
    digest = command.document("stage4", "plan", "validate", FIRST)["plan_digest"]
    assert str(digest) in done.stdout
    assert command(*words, STAGEGATE_VKEY=str(said["vkey"])).stdout == done.stdout


def test_a_plan_that_would_be_refused_ends_with_1(catalogue: Path, tmp_path: Path) -> None:
    """The document is there all the same, with each problem; people are told, too."""
    plan = plan_of(tmp_path, upper(text="a"), upper(text=1, more=2))

    done, told = preview(plan, catalogue, "--json"), preview(plan, catalogue)

    document = json.loads(done.stdout)
    assert (done.returncode, document["fits"], done.stderr) == (1, False, "")
    assert [problem["path"] for problem in document["steps"][1]["problems"]] == [
        "steps[1].parameters.more",
        "steps[1].parameters.text",
    ]
    assert told.returncode == 1
    assert "Stage-3 would refuse it: 2 problems" in told.stdout
    assert "PARAMETERS_INVALID: steps[1].parameters.text must be string" in told.stdout


def test_a_plan_that_is_none_is_not_previewed(catalogue: Path) -> None:
    """It has no digest to approve; the error is that of `plan validate`."""
    code, error = error_of(preview(PLANS / "invalid_backward_binding.json", catalogue, "--json"))

    assert (code, error["reason"]) == (1, "PLAN_INVALID")
    assert "data_bindings[0].target_step" in error["message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a signed note"),
        (b'{"domains": []}\n', "not a signed note"),
        (signed_catalogue(key=FOREIGN_KEY), "not signed by dev.test/stage3+"),
        (signed_catalogue()[:-20], "not the one that was signed"),
        (signed_catalogue().replace(b"upper case", b"lower case"), "not the one that was signed"),
        (signed_catalogue().replace(b"2026", b"2027", 1), "is not of this text"),
        (signed_catalogue() * 2, "not the one that was signed"),
        (signed_catalogue(form="stagegate/catalogue/v0"), "it is stagegate/catalogue/v0"),
        (signed_catalogue(origin="dev.test/stage4"), "another log"),
        (signed_catalogue() + b" " * 9_000_000, "longer than"),
    ],
    ids=[
        *("empty", "unsigned", "foreign", "cut", "changed", "redated", "twice", "old", "log"),
        "huge",
    ],
)
def test_a_catalogue_that_is_not_to_be_believed_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    """One reason, the file's name, what is wrong and what to do; no preview and no digest."""
    file = tmp_path / "catalogue"
    file.write_bytes(content)

    code, error = error_of(preview(plan_of(tmp_path, upper(text="a")), file, "--json"))

    assert (code, error["reason"]) == (78, "CATALOGUE_REFUSED")
    assert error["message"].startswith(f"{file}: ")
    assert words in error["message"]
    assert error["advice"]


def test_without_a_key_nothing_is_believed(catalogue: Path, tmp_path: Path) -> None:
    """None, one that is none, and the control: the right one, with white space around it."""
    plan = plan_of(tmp_path, upper(text="a"))
    missing = run_offline(*PREVIEW, plan, "--catalogue", catalogue, "--json")
    wrong = preview(plan, catalogue, "--json", vkey="dev.test/stage3+00000000+AAAA")

    code, error = error_of(missing)
    assert (code, error["reason"]) == (2, "VKEY_MISSING")
    assert "--vkey" in error["advice"]
    code, error = error_of(wrong)
    assert (code, error["reason"]) == (78, "VKEY_REFUSED")
    assert preview(plan, catalogue, vkey=f" {KEY.vkey}\n").returncode == 0


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Missing, a directory, and one that this user may not read."""
    plan = plan_of(tmp_path, upper(text="a"))
    locked = tmp_path / "locked"
    locked.touch(mode=0)
    for path in (tmp_path / "missing", tmp_path, locked):
        done = run_unprivileged(*PREVIEW, plan, "--catalogue", path, "--vkey", KEY.vkey, "--json")
        code, error = error_of(done)
        assert (code, error["reason"]) == (78, "FILE_REFUSED")
        assert str(path) in error["message"]


def test_what_a_catalogue_says_cannot_move_a_cursor(tmp_path: Path) -> None:
    """Escapes, line feeds, bidirectional marks and markup of somebody else are shown as text."""
    hostile = "\x1b[2J\x07\nplan_digest 0\u202e[bold]\x9b31m\u2028"
    schema = {
        "properties": {hostile: {"type": "string"}, "text": {"type": "string"}},
        "required": [hostile],
        "additionalProperties": False,
    }
    file = tmp_path / "catalogue"
    file.write_bytes(
        signed_catalogue(
            domain("text", method(description=hostile, parameters_schema=schema, repetition="\r"))
        )
    )
    plan = plan_of(tmp_path, upper(text=hostile))

    for words in ((), ("--json",)):
        done = preview(plan, file, *words)
        assert done.returncode == 1
        shown = set(done.stdout.replace("\n", ""))
        assert all(char.isprintable() for char in shown), sorted(shown)
        assert not any(line.startswith("plan_digest 0") for line in done.stdout.splitlines())
    assert "[bold]" in preview(plan, file).stdout


def test_what_is_too_long_is_cut_for_people_only(catalogue: Path, tmp_path: Path) -> None:
    """A table shows the beginning and says so; the document has all of it."""
    plan = plan_of(tmp_path, upper(text="a" * 5000))

    told, document = preview(plan, catalogue), json.loads(preview(plan, catalogue, "--json").stdout)

    assert "a" * 200 not in told.stdout
    assert "--json shows all of it" in told.stdout
    assert document["steps"][0]["parameters"]["text"] == "a" * 5000


def test_a_name_cannot_pass_for_another_cell(catalogue: Path, tmp_path: Path) -> None:
    """A parameter's name that is no plain word stands in backticks."""
    odd = 'text  string, required  "harmless"'

    told = preview(plan_of(tmp_path, upper(text="a", **{odd: 1})), catalogue)

    assert f"`{odd}`" in told.stdout
    assert not any(line.startswith(odd) for line in told.stdout.splitlines())


def test_a_binding_is_not_cut_away(catalogue: Path, tmp_path: Path) -> None:
    """However long the value is that it will replace."""
    binding = {"source_step": 0, "source_path": "text", "target_step": 1, "target_path": "text"}
    plan = plan_of(tmp_path, upper(text="a"), upper(text="b" * 500), data_bindings=[binding])

    told = preview(plan, catalogue)

    assert "from step 0: text; " in told.stdout
    assert "--json shows all of it" in told.stdout
