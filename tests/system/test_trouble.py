"""Trouble at the start of a service, and what a secret or a flood of denials leaves behind.

The programs are the real ones, started as a person would start them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from examples.local_pair import LocalPair
from stage3_service.settings import Denials
from stage4_service.settings import Refusals
from tests.fakes.trial_plans import trial_plan
from tests.harness.pair import plan_document, running_pair
from tests.harness.pki import uri
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVICES = ("stage3", "stage4")
STORES = {"stage3": "stage3.sqlite3", "stage4": "stage4.sqlite3"}
FIRST_LISTENER = {"stage3": "PLANS", "stage4": "CLIENTS"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPair]:
    """Return a pair of the installed programs, serving, with logs that leave nothing out."""
    everything = {"STAGE3_LOG_LEVEL": "debug", "STAGE4_LOG_LEVEL": "debug"}
    with LocalPair(tmp_path_factory.mktemp("trouble") / "running") as pair:
        pair.make()
        pair.start_stage3(everything)
        pair.start_stage4(everything)
        yield pair


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> LocalPair:
    """Return a pair that was made and does not serve."""
    pair = LocalPair(tmp_path_factory.mktemp("trouble") / "stopped")
    pair.make()
    return pair


def fails_to_serve(pair: LocalPair, service: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Start a service that must refuse; return its exit code and the error that it told."""
    config = pair.stage3_config if service == "stage3" else pair.stage4_config
    done = pair.attempt(service, "serve", "--config", config, "--json", environment=environment)
    assert done.returncode != 0
    assert done.stdout == "", "it said that it serves"
    (told,) = json.loads(done.stderr).values()
    assert told["exit_code"] == done.returncode
    assert told["advice"]
    return done.returncode, told


def addresses(pair: LocalPair, service: str) -> dict[str, str]:
    """Return where a running service listens."""
    return pair.stage3_addresses if service == "stage3" else pair.stage4_addresses


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
class TestStart:
    """A service that cannot keep its promises does not start, and says what to do."""

    def test_a_port_that_is_taken(
        self, running: LocalPair, stopped: LocalPair, service: str
    ) -> None:
        """Exit 71 with the address: two processes never share a port."""
        listener = FIRST_LISTENER[service]
        taken = addresses(running, service)[listener.lower()]
        code, told = fails_to_serve(
            stopped, service, **{f"{service.upper()}_LISTEN__{listener}": taken}
        )
        assert (code, told["reason"]) == (71, "PORT_UNAVAILABLE")
        assert taken in told["message"]

    def test_a_store_that_is_in_use(self, running: LocalPair, service: str) -> None:
        """Exit 75 with the process that holds it, which goes on undisturbed."""
        code, told = fails_to_serve(running, service)
        process = running.stage3_process if service == "stage3" else running.stage4_process
        assert process is not None
        assert (code, told["reason"]) == (75, "STORE_LOCKED")
        assert str(process.pid) in told["advice"]
        assert process.poll() is None

    def test_a_store_that_is_missing(
        self, stopped: LocalPair, service: str, tmp_path: Path
    ) -> None:
        """Exit 78 with its path; none is made on the way."""
        code, told = fails_to_serve(
            stopped, service, **{f"{service.upper()}_STATE_DIR": str(tmp_path)}
        )
        assert (code, told["reason"]) == (78, "STORE_MISSING")
        assert str(tmp_path / STORES[service]) in told["message"]
        assert "init" in told["advice"]
        assert list(tmp_path.iterdir()) == []

    def test_a_certificate_that_is_missing(
        self, stopped: LocalPair, service: str, tmp_path: Path
    ) -> None:
        """Exit 78 with its path."""
        missing = str(tmp_path / "missing.crt")
        code, told = fails_to_serve(
            stopped, service, **{f"{service.upper()}_TLS__CERTIFICATE_FILE": missing}
        )
        assert (code, told["reason"]) == (78, "CREDENTIAL_REFUSED")
        assert missing in told["message"]

    def test_a_certificate_of_another_key(self, stopped: LocalPair, service: str) -> None:
        """Exit 78 with both files."""
        other = str(stopped.certificates / ("stage4.crt" if service == "stage3" else "stage3.crt"))
        code, told = fails_to_serve(
            stopped, service, **{f"{service.upper()}_TLS__CERTIFICATE_FILE": other}
        )
        assert (code, told["reason"]) == (78, "CREDENTIAL_REFUSED")
        assert other in told["message"]

    def test_a_key_that_others_can_read(
        self, stopped: LocalPair, service: str, tmp_path: Path
    ) -> None:
        """Exit 78: such a key is nobody's secret any more."""
        key = tmp_path / "open.key"
        key.write_bytes((stopped.certificates / f"{service}.key").read_bytes())
        key.chmod(0o644)
        code, told = fails_to_serve(
            stopped, service, **{f"{service.upper()}_TLS__KEY_FILE": str(key)}
        )
        assert (code, told["reason"]) == (78, "CREDENTIAL_REFUSED")
        assert str(key) in told["message"]

    def test_a_setting_that_does_not_exist(self, stopped: LocalPair, service: str) -> None:
        """Exit 78 with the name and the one that was probably meant."""
        name = f"{service.upper()}_LISTN__PROBES"
        code, told = fails_to_serve(stopped, service, **{name: "127.0.0.1:0"})
        assert (code, told["reason"]) == (78, "SETTINGS_REFUSED")
        (problem,) = told["problems"]
        assert name in problem
        assert f"{service.upper()}_LISTEN__PROBES" in problem

    def test_a_listener_without_certificates_beyond_loopback(
        self, stopped: LocalPair, service: str
    ) -> None:
        """The flag for development opens nothing that another machine could reach."""
        prefix = service.upper()
        code, told = fails_to_serve(
            stopped,
            service,
            **{
                f"{prefix}_INSECURE_LOOPBACK": "true",
                f"{prefix}_LISTEN__{FIRST_LISTENER[service]}": "0.0.0.0:0",
            },
        )
        assert code == 78
        assert "loopback" in json.dumps(told)


@pytest.mark.slow
def test_an_unknown_key_in_the_domains_file_is_refused_by_name(
    stopped: LocalPair, tmp_path: Path
) -> None:
    """Exit 78 with the key and a suggestion; a domain half declared is not served."""
    domains = tmp_path / "domains.toml"
    domains.write_text('[domains.text]\nadaptor = "builtin"\n')
    code, told = fails_to_serve(stopped, "stage3", STAGE3_DOMAINS_FILE=str(domains))
    assert code == 78
    assert "adaptor" in json.dumps(told)
    assert "did you mean" in json.dumps(told)


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("words", "name", "suggestion"),
    [(("serv",), "serv", "serve"), (("serve", "--jsom"), "--jsom", "--json")],
)
def test_a_misspelled_command_is_refused_by_name(
    stopped: LocalPair, service: str, words: tuple[str, ...], name: str, suggestion: str
) -> None:
    """Exit 2 with the name and a suggestion."""
    done = stopped.attempt(service, *words)
    assert done.returncode == 2
    assert name in done.stderr
    assert suggestion in done.stderr


class TestWrongIdentity:
    """A Stage-4 that is not who Stage-3 expects, and a Stage-3 that is not who Stage-4 expects."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "changes",
        [
            # A client's certificate in Stage-4's place opens no door of Stage-3.
            {
                "STAGE4_STAGE3__TLS__CERTIFICATE_FILE": "demo.crt",
                "STAGE4_STAGE3__TLS__KEY_FILE": "demo.key",
            },
            # Whoever answers is not the pinned name: no connection, nothing sent.
            {"STAGE4_STAGE3__SERVER_NAME": "stage3.elsewhere.test"},
        ],
        ids=["another's certificate", "another's name"],
    )
    def test_nothing_is_executed_and_the_client_is_told(
        self, running: LocalPair, tmp_path: Path, changes: dict[str, str]
    ) -> None:
        """A stable reason, no effect, and a record at Stage-4."""
        reason = "STAGE3_UNREACHABLE"
        variables = {
            name: str(running.certificates / value) if name.endswith("_FILE") else value
            for name, value in changes.items()
        }
        document = tmp_path / "plan.json"
        document.write_text(json.dumps(trial_plan()))
        with LocalPair(tmp_path / "second") as second:
            second.make_certificates()
            second.make_stage4()
            for file in running.certificates.iterdir():
                (second.certificates / file.name).write_bytes(file.read_bytes())
            variables["STAGE4_STAGE3__ADDRESS"] = running.stage3_addresses["plans"]
            second.start_stage4({**variables, "STAGE4_STAGE3__CONNECT_TIMEOUT_S": "1"})
            done = second.attempt("stage4", "plan", "run", document, "--json")
            (told,) = json.loads(done.stderr).values()
            assert (done.returncode, told["reason"], told["effects"]) == (1, reason, "none")
            shown = json.loads(second.run("stage4", "plan", "show", told["plan_id"], "--json"))
            assert (shown["state"], shown["reason"]) == ("refused", reason)


class TestFlood:
    """A thousand denied calls fill neither log: each caller has a budget at each service."""

    BURST = 40

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["a bad token", "no plan", "no permission"])
    def test_a_thousand_denied_calls_leave_a_bounded_trail(self, tmp_path: Path, kind: str) -> None:
        """Beyond the budget OVERLOADED, or the same refusal, without a record; others unharmed."""
        document: Any = b"{}" if kind == "no plan" else plan_document("token_" + "A" * 43)
        if kind != "no plan":
            document["steps"] = [step("trial", "effect")]
        caller = "domain" if kind == "no permission" else "cli"
        budget = {"burst": self.BURST, "per_second": 0}
        with running_pair(
            tmp_path,
            stage3={"denials": Denials(**budget)},
            stage4={"refusals": Refusals(**budget)},
        ) as own:
            before = own.sizes()
            told = [own.stage4.execute(document, caller=caller).reason for _ in range(1000)]
            below, above = (now - was for now, was in zip(own.sizes(), before, strict=True))
            first = {
                "a bad token": "TOKEN_NOT_ACCEPTED",
                "no plan": "PLAN_INVALID",
                "no permission": "METHOD_NOT_PERMITTED",
            }[kind]
            assert told[: self.BURST] == [first] * self.BURST
            rest = first if kind == "no permission" else "OVERLOADED"
            assert told[self.BURST :] == [rest] * (1000 - self.BURST)
            # Two events below and three above for each recorded refusal, and not one more.
            assert below == (2 * self.BURST if kind == "a bad token" else 0)
            assert above == {"a bad token": 3, "no plan": 2, "no permission": 1}[kind] * self.BURST
            token = own.token(client_identities=[uri("other")])
            allowed = plan_document(token, step("trial", "effect"))
            assert own.stage4.execute(allowed, caller="other").code == "OK"

    def test_stage3_sums_up_what_it_did_not_record(self, tmp_path: Path) -> None:
        """One DENIALS_SUPPRESSED with the caller and the count, once the budget has come back."""
        with running_pair(tmp_path, stage3={"denials": Denials(burst=2, per_second=1)}) as own:
            document = plan_document("token_" + "A" * 43, step("trial", "effect"))
            told = [own.stage4.execute(document).reason for _ in range(10)]
            assert told == ["TOKEN_NOT_ACCEPTED"] * 2 + ["OVERLOADED"] * 8
            own.clock.advance(1)
            assert own.stage4.execute(document).reason == "TOKEN_NOT_ACCEPTED"
            (summary,) = own.stage3.events(event_type="DENIALS_SUPPRESSED")
            assert summary["additional_data"]["count"] == 8
            assert summary["additional_data"]["caller"] == uri("cli")


CANARY = "canary_7f3d9b51c0de"
"""A value that a client writes into its plans, and that nobody may write down."""


@pytest.mark.slow
def test_no_secret_is_written_down_anywhere(running: LocalPair, tmp_path: Path) -> None:
    """Neither the credential nor a parameter is in a log line, a store, an error or an event.

    The plan succeeds, fails, is refused and is malformed; its outputs are digests, because an
    output is stored for whoever resubmits.
    """
    issued = json.loads(
        running.run(
            *("stage3", "token", "issue", "--user", "operations", "--client", "demo"),
            *("--allow", "text:sha256,upper", "--json"),
        )
    )
    credential = str(issued["token_hash"])
    hidden = step("text", "sha256", text=CANARY)
    documents: dict[str, tuple[Any, int]] = {
        "completes": ({"steps": [hidden]}, 0),
        "out_of_scope": ({"steps": [hidden, step("text", "reverse", text=CANARY)]}, 1),
        "wrong_parameters": ({"steps": [step("text", "sha256", text=CANARY, more=CANARY)]}, 1),
        "wrong_type": ({"steps": [step("text", "sha256", text=[CANARY])]}, 1),
        "unresolved": (
            {
                "steps": [hidden, step("text", "upper")],
                "data_bindings": [
                    {
                        "source_step": 0,
                        "source_path": CANARY,
                        "target_step": 1,
                        "target_path": "text",
                    }
                ],
            },
            1,
        ),
        "extra_field": ({"steps": [hidden], CANARY: CANARY}, 1),
        "bad_name": ({"steps": [step(CANARY.upper(), CANARY)]}, 1),
    }
    output = ""
    for name, (changes, expected) in documents.items():
        file = tmp_path / f"{name}.json"
        file.write_text(
            json.dumps(
                {
                    "user_id": "operations",
                    "token_hash": credential,
                    "trigger_type": "manual",
                    **changes,
                }
            )
        )
        file.chmod(0o600)
        done = running.attempt("stage4", "plan", "run", file, "--request-id", name)
        assert done.returncode == expected, (name, done.stderr)
        output += done.stdout + done.stderr
    for command in (
        ("stage3", "audit", "list", "--json"),
        ("stage3", "token", "list", "--json"),
        ("stage4", "audit", "list", "--json"),
        ("stage4", "plan", "list", "--json"),
    ):
        output += running.run(*command)
    assert credential not in output

    secrets = {"the credential": credential.encode(), "its text": credential[6:].encode()}
    places = [
        running.log_of("stage3"),
        running.log_of("stage4"),
        *(file for name in SERVICES for file in sorted((running.directory / name).iterdir())),
    ]
    assert len(places) >= 6, places
    for place in places:
        written = place.read_bytes()
        for secret, value in {**secrets, "a parameter": CANARY.encode()}.items():
            assert value not in written, f"{secret} is in {place.name}"
    # The control: the same search finds what may be written down.
    public = issued["token"]["token_id"].encode()
    assert any(public in place.read_bytes() for place in places)
