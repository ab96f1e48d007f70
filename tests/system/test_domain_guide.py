"""`docs/write-a-domain-service.md`, tried word for word; and the ledger that it points to."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit.process import ExitCode
from tests.harness.node import NODE_MODULES, node_program
from tests.harness.page_reader import ROOT, Reader, blocks

GUIDE = ROOT / "docs" / "write-a-domain-service.md"
LEDGER = ROOT / "examples" / "domain_service" / "ledger.py"
NODE_LEDGER = ROOT / "examples" / "domain_service_node" / "ledger.js"

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with an empty directory; what still serves at the end is ended."""
    somebody = Reader(tmp_path, NODE_PATH=str(NODE_MODULES))
    yield somebody
    somebody.stop()


def test_the_page_works_as_it_stands(reader: Reader) -> None:
    """Every file as shown, every command as typed; the plan's output and its events at the end."""
    said = ""
    for file, language, text in blocks(GUIDE):
        if language == "serve":
            reader.serve(text.strip())
        elif language == "sh":
            said = reader.type(text)
        else:
            assert file, f"a block that nothing names: {text[:40]}"
            reader.write(file, text)
    assert len(re.findall(r"TOKEN_VALIDATION|AUTHORIZATION_SCOPE_CHECK|RESOURCE_LIMIT", said)) == 3
    assert "EXECUTION_COMPLETED" in said
    output = reader.type(
        "stage4 plan run plan.json --token-file demo.token --profile certs/demo.toml --json"
    )
    assert json.loads(output)["results"][0]["output"] == {"feet": 100.0}
    assert reader.stop() == [int(ExitCode.OK)] * 3


def serve_ledger(language: str) -> str:
    """Return the command that serves the ledger, in one language or the other."""
    if language == "python":
        return f"{sys.executable} {LEDGER} serve --config ledger.toml"
    return f"{node_program()} {NODE_LEDGER} --listen 127.0.0.1:7411"


@pytest.mark.parametrize("language", ["python", "node"])
def test_the_ledger_keeps_an_entry_once(reader: Reader, language: str) -> None:
    """A key writes one entry, in the Python ledger and in the one that is made of the proto."""
    reader.type("stage3 certs init certs; stage3 certs server certs ledger --dns ledger.dev.test")
    tls = (
        'certificate_file = "certs/ledger.crt"\nkey_file = "certs/ledger.key"\n'
        'client_authority_file = "certs/ca.crt"\n'
    )
    reader.write(
        "ledger.toml",
        'trust_domain = "dev.test"\nlisten = "127.0.0.1:7411"\nprobes = "127.0.0.1:7412"\n'
        f"[tls]\n{tls}",
    )
    program = f"{sys.executable} {LEDGER}"
    declared = f"{program} declare 127.0.0.1:7411 ledger.dev.test > domains.toml"
    reader.type(f"{declared}; stage3 domain check domains.toml")
    reader.type("stage3 init --domains domains.toml; stage4 init")
    reader.serve(serve_ledger(language))
    reader.serve("stage3 serve --config stage3.toml")
    reader.serve("stage4 serve --config stage4.toml")
    reader.type("stage3 domain accept ledger --first --profile certs/operator.toml")
    reader.type(
        "stage3 token issue --user operations --client demo --allow ledger:transfer,balance "
        "--output demo.token --profile certs/operator.toml"
    )
    transfer = {"debit": "cash", "credit": "rent", "cents": 120}
    plan = {
        "user_id": "operations",
        "token_hash": "REPLACE_WITH_TOKEN",
        "trigger_type": "manual",
        "steps": [
            {"domain": "ledger", "method": "transfer", "parameters": transfer},
            {"domain": "ledger", "method": "transfer", "parameters": transfer},
            {"domain": "ledger", "method": "balance", "parameters": {"account": "rent"}},
        ],
    }
    reader.write("plan.json", json.dumps(plan))
    run = "stage4 plan run plan.json --token-file demo.token --profile certs/demo.toml --json"
    results = json.loads(reader.type(f"{run} --request-id once"))["results"]
    assert [result["output"] for result in results][2] == {"cents": 240}
    assert json.loads(reader.type(f"{run} --request-id once"))["results"] == results
    again = json.loads(reader.type(f"{run} --request-id twice"))["results"]
    assert [result["output"] for result in again][2] == {"cents": 480}
    assert reader.stop() == [int(ExitCode.OK)] * 3


def test_one_ledger_takes_the_place_of_the_other(reader: Reader) -> None:
    """They show the same definition: what was accepted of one is accepted of the other."""
    reader.type("stage3 certs init certs; stage3 certs server certs ledger --dns ledger.dev.test")
    program = f"{sys.executable} {LEDGER}"
    reader.type(f"{program} declare 127.0.0.1:7411 ledger.dev.test > domains.toml")
    reader.type("stage3 init --domains domains.toml")
    reader.serve(serve_ledger("node"))
    reader.serve("stage3 serve --config stage3.toml")
    shown = "stage3 domain describe ledger --json --profile certs/operator.toml"
    reader.type("stage3 domain accept ledger --first --profile certs/operator.toml")
    node = json.loads(reader.type(shown))["shown"]
    methods = node["definition"]["methods"]
    assert set(methods) == {"transfer", "balance"}
    assert methods["transfer"]["max_duration"] == "5s"
    assert reader.stop() == [int(ExitCode.OK)] * 2

    reader.write(
        "ledger.toml",
        'trust_domain = "dev.test"\nlisten = "127.0.0.1:7411"\nprobes = "127.0.0.1:7412"\n'
        '[tls]\ncertificate_file = "certs/ledger.crt"\nkey_file = "certs/ledger.key"\n'
        'client_authority_file = "certs/ca.crt"\n',
    )
    reader.serve(serve_ledger("python"))
    reader.serve("stage3 serve --config stage3.toml")
    python = json.loads(reader.type(shown))["shown"]
    assert python["digest"] == python["accepted_digest"] == node["digest"]
    assert python["difference"] == []


def test_a_ledger_of_another_release_is_accepted_before_it_is_called(
    reader: Reader, tmp_path: Path
) -> None:
    """Real processes all the way: accepted, replaced, refused, shown, accepted again, called."""
    reader.type("stage3 certs init certs; stage3 certs server certs ledger --dns ledger.dev.test")
    reader.write(
        "ledger.toml",
        'trust_domain = "dev.test"\nlisten = "127.0.0.1:7411"\nprobes = "127.0.0.1:7412"\n'
        '[tls]\ncertificate_file = "certs/ledger.crt"\nkey_file = "certs/ledger.key"\n'
        'client_authority_file = "certs/ca.crt"\n',
    )
    words = "Moves cents from one account to another."
    (tmp_path / "changed.py").write_text(LEDGER.read_text().replace(words, "Moves everything."))
    reader.type(f"{sys.executable} {LEDGER} declare 127.0.0.1:7411 ledger.dev.test > domains.toml")
    reader.type("stage3 init --domains domains.toml; stage4 init")
    reader.serve("stage3 serve --config stage3.toml")
    reader.serve("stage4 serve --config stage4.toml")
    reader.type(
        "stage3 token issue --user operations --client demo --allow ledger:balance "
        "--output demo.token --profile certs/operator.toml"
    )
    step = {"domain": "ledger", "method": "balance", "parameters": {"account": "rent"}}
    plan = {
        "user_id": "operations",
        "token_hash": "REPLACE_WITH_TOKEN",
        "trigger_type": "manual",
        "steps": [step],
    }
    reader.write("plan.json", json.dumps(plan))
    run = "stage4 plan run plan.json --token-file demo.token --profile certs/demo.toml --json"
    operator = "--profile certs/operator.toml"
    accept = f"stage3 domain accept ledger {operator}"

    reader.serve(f"{sys.executable} {LEDGER} serve --config ledger.toml")
    assert "METHOD_UNDECLARED" in reader.type(f"! {run} 2>&1")
    assert "ledger is withheld" in reader.type(f"stage3 domain list {operator}")
    assert "CONFIRMATION_NEEDED" in reader.type(f"! {accept} 2>&1 < /dev/null")
    # Somebody at a terminal, who reads what is shown and says no, and then yes.
    typed = f"script -qec '{accept}' /dev/null"
    assert "was not accepted" in reader.type(f"! echo n | {typed}")
    assert "ledger is accepted" in reader.type(f"echo y | {typed}")
    assert json.loads(reader.type(run))["status"] == "completed"
    reader.stop_last()

    reader.serve(f"{sys.executable} changed.py serve --config ledger.toml")
    # Until Stage-3 has connected anew, nothing is sent; from then on gate 2 refuses.
    told = reader.type(
        f"until ({run} 2>&1 || true) | grep METHOD_UNDECLARED > last; do :; done; "
        f"stage3 audit list --type AUTHORIZATION_SCOPE_CHECK --json {operator}"
    )
    assert json.loads(told)["events"][-1]["reason"] == "domain_not_accepted"
    shown = reader.type(f"stage3 domain describe ledger {operator}")
    assert f'- methods.transfer.description: "{words}"' in shown
    assert '+ methods.transfer.description: "Moves everything."' in shown
    assert "DOMAIN_CHANGED" in reader.type(f"! {accept} --first 2>&1")
    assert "DIGEST_MISMATCH" in reader.type(f"! {accept} --digest {'0' * 64} 2>&1")
    digest = json.loads(reader.type(f"stage3 domain describe ledger --json {operator}"))["shown"]
    reader.type(f"{accept} --digest {digest['digest']}")
    assert json.loads(reader.type(run))["status"] == "completed"
    accepted = reader.type(f"stage3 audit list --type DOMAIN_ACCEPTED --json {operator}")
    (first, second) = json.loads(accepted)["events"]
    assert second["additional_data"]["previous_digest"] == first["additional_data"]["digest"]
    assert second["additional_data"]["by"] == "operator"


def test_a_domain_without_its_key_says_what_to_do(reader: Reader) -> None:
    """A wrong setting ends the program before it serves, with the exit code for settings."""
    reader.write("bad.toml", 'trust_domain = "dev.test"\nlissten = "127.0.0.1:7411"\n')
    said = reader.type(f"! {sys.executable} {LEDGER} serve --config bad.toml 2>&1")
    assert "lissten: no such setting; did you mean listen?" in said
    reader.write("bare.toml", 'trust_domain = "dev.test"\nprobes = "127.0.0.1:7412"\n')
    said = reader.type(
        f"{sys.executable} {LEDGER} serve --config bare.toml 2>&1 || echo ended with $?"
    )
    assert f"ended with {int(ExitCode.CONFIG)}" in said
