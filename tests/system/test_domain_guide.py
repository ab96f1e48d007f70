"""`docs/write-a-domain-service.md`, tried word for word; and the ledger that it points to."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit.process import ExitCode
from tests.harness.page_reader import ROOT, Reader, blocks

GUIDE = ROOT / "docs" / "write-a-domain-service.md"
LEDGER = ROOT / "examples" / "domain_service" / "ledger.py"

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with an empty directory; what still serves at the end is ended."""
    somebody = Reader(tmp_path)
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


def test_the_ledger_keeps_an_entry_once(reader: Reader, tmp_path: Path) -> None:
    """Served, drained and served again: the balance stands, and a key writes one entry."""
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
    reader.serve(f"{program} serve --config ledger.toml")
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
