"""What a running Stage-3 signs: what it offers now, and nothing that its log does not know."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.domain.v1.domain_service_pb2 import MethodDescription
from stagegate.stage3.v1 import audit_service_pb2, operator_service_pb2

from servicekit.serving.client_errors import decode_rpc_error
from servicekit.store.log_verifier import LogVerifier
from servicekit.tlog.checkpoint import Checkpoint, parse_checkpoint
from servicekit.tlog.signed_document import open_document
from stage4_service.preview.catalogue import MAX_CATALOGUE_BYTES, Catalogue, open_catalogue
from tests.fakes.remote_domain import running_remote_domain
from tests.harness.mcp import mcp_table, trial_keys
from tests.harness.remote import domain_client, write_domains_file
from tests.harness.stage3 import Stage3UnderTest, running_stage3, step

WORDS = {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}}}


def export(stage3: Stage3UnderTest, caller: str = "curator") -> tuple[bytes, str]:
    """Ask for the signed catalogue and the line that verifies it."""
    request = operator_service_pb2.ExportDomainsRequest()
    answer = stage3.operator(caller).ExportDomains(request, timeout=20)
    return answer.signed_catalogue, answer.verifier_key


def catalogue(stage3: Stage3UnderTest) -> Catalogue:
    """Return what Stage-4 reads in it."""
    signed, vkey = export(stage3)
    return open_catalogue(signed, LogVerifier(vkey))


def as_listed(stage3: Stage3UnderTest) -> dict[str, Any]:
    """Return what Stage-3 lists of its domains, with what Stage-4 reads in a catalogue."""
    request = operator_service_pb2.ListDomainsRequest()
    answer = stage3.operator().ListDomains(request, timeout=20)
    return {
        domain.name: (
            domain.adapter,
            domain.offered,
            [
                (
                    *(method.name, method.description, method.max_duration_ms),
                    *(method.max_response_bytes, method.repetition),
                    json.loads(method.parameters_schema_json or "null"),
                )
                for method in domain.methods
            ],
        )
        for domain in answer.domains
    }


def test_stage_4_reads_what_stage_3_serves(tmp_path: Path) -> None:
    """Every builtin domain, method for method, in an order that does not change."""
    with running_stage3(tmp_path) as stage3:
        read = catalogue(stage3)
        assert {
            domain.name: (
                domain.adapter,
                domain.offered,
                [
                    (
                        *(method.name, method.description, method.max_duration_ms),
                        *(method.max_response_bytes, method.repetition),
                        method.parameters_schema,
                    )
                    for method in domain.methods.values()
                ],
            )
            for domain in read.domains.values()
        } == as_listed(stage3)
        assert list(read.domains) == list(as_listed(stage3))
        assert catalogue(stage3).digest == read.digest


def test_it_names_the_log_as_it_was(tmp_path: Path) -> None:
    """Origin, size and root are those of the log's own checkpoint, and the key is the log's."""
    with running_stage3(tmp_path) as stage3:
        stage3.issue()
        signed, vkey = export(stage3)
        request = audit_service_pb2.GetCheckpointRequest()
        head = stage3.audit().GetCheckpoint(request, timeout=20)
        text, document = open_document(
            signed, LogVerifier(vkey), max_document_bytes=MAX_CATALOGUE_BYTES
        )
        checkpoint = parse_checkpoint("".join(f"{line}\n" for line in text.split("\n")[1:4]))
        assert checkpoint == Checkpoint(head.origin, head.tree_size, head.root_hash)
        assert head.tree_size == 1
        assert sha256(document).hexdigest() == catalogue(stage3).digest
        # It changes nothing: the log has what it had.
        assert len(stage3.events()) == 1


def test_a_domain_elsewhere_is_offered_once_it_is_accepted(tmp_path: Path) -> None:
    """Not before; not when it changed; and the acceptance is among the entries that are named."""
    with running_remote_domain() as remote:
        declared = write_domains_file(tmp_path / "domains.json", remote.address)
        with running_stage3(
            tmp_path, domains_file=declared, domain_client=domain_client()
        ) as stage3:
            before = catalogue(stage3)
            assert (before.domains["trial"].offered, before.domains["text"].offered) == (
                False,
                True,
            )
            digest = stage3.accept("trial")
            accepted = catalogue(stage3)
            trial = accepted.domains["trial"]
            assert (trial.offered, trial.accepted_digest, trial.shown_digest) == (
                *(True, digest, digest),
            )
            (event,) = stage3.events(event_type="DOMAIN_ACCEPTED")
            assert event["seq"] < accepted.tree_size
            assert event["additional_data"]["digest"] == trial.accepted_digest

            remote.descriptions["effect"] = MethodDescription(
                name="effect", description="\x1b[2J Deletes everything."
            )
            describe = operator_service_pb2.DescribeDomainRequest(domain="trial")
            stage3.operator().DescribeDomain(describe, timeout=20)
            moved = catalogue(stage3).domains["trial"]
            assert (moved.offered, moved.accepted_digest) == (False, digest)
            assert moved.shown_digest not in {None, digest}
            token = stage3.issue(scope={"trial": ("echo",)}).token_hash
            assert stage3.run(token, step("trial", "echo")).reason == "METHOD_UNDECLARED"


def test_the_schema_of_a_tool_is_the_accepted_one(tmp_path: Path) -> None:
    """What gate 4 asks, which the domains file alone does not say."""
    file = tmp_path / "domains.json"
    table = mcp_table({"effect": "effect"}, **trial_keys(tmp_path))
    file.write_text(json.dumps({"domains": {"trial": table}}))
    with running_stage3(tmp_path, domains_file=file) as stage3:
        assert catalogue(stage3).domains["trial"].methods["effect"].parameters_schema is None
        stage3.accept("trial")
        describe = operator_service_pb2.DescribeDomainRequest(domain="trial")
        shown = stage3.operator().DescribeDomain(describe, timeout=60)
        said = catalogue(stage3).domains["trial"].methods["effect"].parameters_schema
        assert as_listed(stage3)["trial"][2][0][-1] == said
    assert said is not None
    assert said == json.loads(shown.definition_json)["methods"]["effect"]["input_schema"]


def test_what_a_reload_makes_unenforceable_is_withheld(tmp_path: Path) -> None:
    """The file limits a parameter that the accepted tool does not have: told as gate 2 has it."""
    file = tmp_path / "domains.json"
    table = mcp_table({"effect": "effect"}, **trial_keys(tmp_path))
    file.write_text(json.dumps({"domains": {"trial": table}}))
    with running_stage3(tmp_path, domains_file=file, accept=["trial"]) as stage3:
        token = stage3.issue(scope={"trial": ("effect",)}).token_hash
        assert stage3.run(token, step("trial", "effect", note="a")).kind == "completed"
        assert as_listed(stage3)["trial"][1] is True
        limit = {"properties": {"nowhere": {"maxLength": 1}}}
        table["methods"]["effect"]["parameters_schema"] = limit
        file.write_text(json.dumps({"domains": {"trial": table}}))
        reload = operator_service_pb2.ReloadDomainsRequest()
        stage3.operator().ReloadDomains(reload, timeout=60)
        assert catalogue(stage3).domains["trial"].offered is False
        assert as_listed(stage3)["trial"][1] is False
        assert stage3.run(token, step("trial", "effect", note="a")).reason == "METHOD_UNDECLARED"


def test_a_reload_is_another_catalogue(tmp_path: Path) -> None:
    """What is served counts, not what lies in the file; a file that is refused changes nothing."""
    file = tmp_path / "domains.json"
    file.write_text(json.dumps({"domains": {"words": WORDS}}))
    with running_stage3(tmp_path, domains_file=file) as stage3:
        first = catalogue(stage3)
        file.write_text(json.dumps({"domains": {"words": WORDS, "more": WORDS}}))
        assert catalogue(stage3).digest == first.digest
        request = operator_service_pb2.ReloadDomainsRequest()
        stage3.operator().ReloadDomains(request, timeout=20)
        second = catalogue(stage3)
        assert list(second.domains) == ["words", "more"]
        assert second.digest != first.digest
        file.write_text("{")
        with pytest.raises(grpc.RpcError):
            stage3.operator().ReloadDomains(request, timeout=20)
        assert catalogue(stage3).digest == second.digest


@pytest.mark.parametrize("caller", ["issuer", "revoker", "auditor", "halter"])
def test_a_statement_in_the_logs_name_takes_a_curator(tmp_path: Path, caller: str) -> None:
    """Who may list the domains may not have them signed."""
    with running_stage3(tmp_path) as stage3:
        with pytest.raises(grpc.RpcError) as refused:
            export(stage3, caller)
        assert decode_rpc_error(refused.value).reason == "METHOD_NOT_PERMITTED"
