"""Commands that need no running service: making, checking, verifying, refusing to serve."""

import json
import re
import shutil
import socket
import sqlite3
import stat
from pathlib import Path

import pytest

from examples.local_pair import LocalPair, PairFailed, holder_of
from tests.component.cli.conftest import CommandLine, run_offline, run_unprivileged

DOMAINS = Path(__file__).resolve().parents[3] / "examples" / "domains.toml"
_SECOND_NOTEBOOK = """
[domains.diary]
adapter = "builtin"
endpoint = "notebook"
methods.append_note = {}
"""
SERVICES = ("stage3", "stage4")


def config_of(pair: LocalPair, service: str) -> Path:
    """Return the settings file of a service."""
    return {"stage3": pair.stage3_config, "stage4": pair.stage4_config}[service]


def store_of(pair: LocalPair, service: str) -> Path:
    """Return the store of a service."""
    return {"stage3": pair.stage3_store, "stage4": pair.stage4_store}[service]


def contents(directory: Path) -> dict[Path, bytes]:
    """Return every file below a directory."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_certificates_come_with_profiles(tmp_path: Path) -> None:
    """One command makes the usual set; keys are for their owner only, profiles hold no secret."""
    done = run_offline("stage3", "certs", "init", tmp_path / "certs", "--json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    names = [certificate["name"] for certificate in document["certificates"]]
    assert names == [
        "spiffe://dev.test",
        *("stage3.dev.test", "stage4.dev.test"),
        *("spiffe://dev.test/stage3", "spiffe://dev.test/stage4"),
        *("spiffe://dev.test/operator/operator", "spiffe://dev.test/client/demo"),
        "spiffe://dev.test/auditor/auditor",
    ]
    keys = list((tmp_path / "certs").glob("*.key"))
    assert len(keys) == len(names)
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_certificates_are_never_overwritten(tmp_path: Path) -> None:
    """The second init is refused and changes nothing."""
    run_offline("stage3", "certs", "init", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    done = run_offline("stage3", "certs", "init", tmp_path)

    assert done.returncode == 1
    assert "CERTIFICATE_REFUSED" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("identity", "service"),
    [("client/billing", "stage4"), ("operator/night", "stage3"), ("domain/notes", None)],
)
def test_one_more_caller(tmp_path: Path, identity: str, service: str | None) -> None:
    """People and programs that call get a profile; a domain, which calls nobody, does not."""
    run_offline("stage3", "certs", "init", tmp_path)

    done = run_offline(
        "stage3", "certs", "caller", tmp_path, "more", "--identity", identity, "--json"
    )

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["name"] == f"spiffe://dev.test/{identity}"
    if service is None:
        assert document["profile"] is None
    else:
        assert f'server_name = "{service}.dev.test"' in Path(document["profile"]).read_text()


def test_one_more_server(tmp_path: Path) -> None:
    """Its one name is the one that was asked for."""
    run_offline("stage3", "certs", "init", tmp_path)

    done = run_offline("stage3", "certs", "server", tmp_path, "second", "--dns", "second.dev.test")

    assert done.returncode == 0, done.stderr
    assert "second.dev.test" in done.stdout


@pytest.mark.parametrize("identity", ["root/me", "client/", "client/../x", "stage3/x"])
def test_an_identity_outside_the_closed_list_is_refused(tmp_path: Path, identity: str) -> None:
    """No certificate is made that no door would know."""
    run_offline("stage3", "certs", "init", tmp_path)

    done = run_offline("stage3", "certs", "caller", tmp_path, "odd", "--identity", identity)

    assert done.returncode == 1
    assert not (tmp_path / "odd.key").exists()


@pytest.mark.parametrize("service", SERVICES)
def test_init_makes_private_state_and_overwrites_nothing(stopped: LocalPair, service: str) -> None:
    """The state is its owner's; a second init changes nothing, and says what there was to do."""
    store = store_of(stopped, service)
    before = contents(stopped.directory)
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.parent.stat().st_mode) == 0o700
    with_config = ("init", "--config", config_of(stopped, service))

    again = run_offline(service, "init", stopped.directory)
    asked = run_offline(service, *with_config)
    document = run_offline(service, *with_config, "--json")

    assert (again.returncode, "FILE_EXISTS" in again.stderr) == (1, True)
    assert (asked.returncode, document.returncode) == (0, 0)
    assert "nothing was made" in asked.stdout
    assert json.loads(document.stdout)["created"] == []
    assert contents(stopped.directory) == before


@pytest.mark.parametrize("service", SERVICES)
def test_init_writes_no_new_settings_for_a_state_that_is_there(
    stopped: LocalPair, service: str
) -> None:
    """How it was served is not known any more, and is not made up."""
    config_of(stopped, service).unlink()
    before = contents(stopped.directory)

    done = run_offline(service, "init", stopped.directory)

    assert (done.returncode, "STORE_EXISTS" in done.stderr) == (78, True)
    assert contents(stopped.directory) == before


@pytest.mark.parametrize("gone", ["key ring", "log key"])
@pytest.mark.parametrize("service", SERVICES)
def test_init_does_not_call_a_state_whole_whose_keys_are_gone(
    stopped: LocalPair, service: str, gone: str
) -> None:
    """Another key would open and vouch for nothing: it is refused, and none is made."""
    state = store_of(stopped, service).parent
    ring = "outcome.keys" if service == "stage3" else "stage4-outcome.keys"
    file = state / "log.key" if gone == "log key" else stopped.directory / ring
    file.unlink()
    before = contents(stopped.directory)

    done = run_offline(service, "init", "--config", config_of(stopped, service))

    assert done.returncode in {74, 78}, done.stderr
    assert file.name in done.stderr
    assert contents(stopped.directory) == before


def test_a_domain_is_added_to_a_deployment_that_exists(stopped: LocalPair) -> None:
    """`init` makes what the new notebook lacks, names it, and leaves the store as it was."""
    before = stopped.stage3_store.read_bytes()
    domains = stopped.directory / "domains.toml"
    domains.write_text(DOMAINS.read_text() + _SECOND_NOTEBOOK)
    stopped.stage3_config.write_text(
        f'domains_file = "{domains}"\n' + stopped.stage3_config.read_text()
    )
    serve = ("stage3", "serve", "--config", stopped.stage3_config)
    notebook = stopped.stage3_store.with_name("domain-diary.sqlite3")

    refused = run_offline(*serve, "--json")
    init = run_offline("stage3", "init", "--config", stopped.stage3_config)
    again = run_offline("stage3", "init", "--config", stopped.stage3_config)
    stopped.start_stage3()
    stopped.kill()

    error = json.loads(refused.stderr)["error"]
    assert (refused.returncode, error["reason"]) == (74, "NOTEBOOK_REFUSED")
    assert "stage3 init --config" in error["advice"]
    assert init.returncode == 0, init.stderr
    assert str(notebook) in init.stdout
    assert "domain-notebook" not in init.stdout
    assert "left as it is" in init.stdout
    assert (again.returncode, "nothing was made" in again.stdout) == (0, True)
    assert stopped.stage3_store.read_bytes()[:100] == before[:100]


def test_what_is_left_of_a_store_is_named_as_that(stopped: LocalPair) -> None:
    """`serve` sends to `init`, and `init` does not send back: the remains are to be kept."""
    stopped.stage3_store.rename(stopped.stage3_store.with_name("stage3.sqlite3-wal"))

    done = run_offline("stage3", "init", "--config", stopped.stage3_config)

    assert done.returncode == 78
    assert "what is left of a store that is gone" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("stage3", "init", "{}"),
        ("stage4", "init", "{}"),
        ("stage3", "certs", "init", "{}"),
        ("stage3", "certs", "init", "{}/new"),
        ("stage3", "certs", "init", "/proc/nope"),
    ],
)
def test_where_nothing_may_be_made_it_is_said(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The path and the system's word, exit code 78, and no trace as of a defect."""
    run_offline("stage3", "certs", "init", tmp_path / "certs")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    certificates = ("--certs", tmp_path / "certs") if words[1] == "init" else ()

    done = run_unprivileged(*(word.format(locked) for word in words), *certificates)

    assert done.returncode == 78
    assert "FILE_REFUSED" in done.stderr
    assert ("Permission denied" in done.stderr) is ("/proc" not in words[-1])
    assert "Traceback" not in done.stderr


def test_a_failed_init_can_be_repeated(tmp_path: Path) -> None:
    """Settings that were written for a state that could not be made go with it."""
    run_offline("stage3", "certs", "init", tmp_path / "certs")
    (tmp_path / "bad.toml").write_text("[domains.text]\nadaptor = 'builtin'\n")

    failed = run_offline("stage3", "init", tmp_path, "--domains", tmp_path / "bad.toml")
    repeated = run_offline("stage3", "init", tmp_path, "--domains", DOMAINS)

    assert (failed.returncode, repeated.returncode) == (78, 0), repeated.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_the_starter_settings_say_what_holds(stopped: LocalPair, service: str) -> None:
    """What is commented out is the default: with and without it, the same settings are in force."""
    config = config_of(stopped, service)
    text = config.read_text()
    uncommented = re.sub(r"(?m)^# (?!domains_file)([a-z_0-9]+ = )", r"\1", text)
    spelled_out = stopped.directory / "spelled-out.toml"
    spelled_out.write_text(uncommented)
    assert uncommented != text

    shown = [
        run_offline(service, "serve", "--config", file, "--print-config")
        for file in (config, spelled_out)
    ]

    assert [done.returncode for done in shown] == [0, 0], shown[1].stderr
    assert shown[0].stdout == shown[1].stdout
    assert "state_dir" in shown[0].stdout


@pytest.mark.parametrize("service", SERVICES)
def test_an_unknown_setting_is_refused_with_a_suggestion(stopped: LocalPair, service: str) -> None:
    """In the file and in the environment; all problems are named at once."""
    config = config_of(stopped, service)
    config.write_text(config.read_text().replace("trust_domain", "trust_domian"))

    done = run_offline(
        service,
        "serve",
        "--config",
        config,
        "--json",
        environment={f"{service.upper()}_DRAIN": "3"},
    )

    error = json.loads(done.stderr)["error"]
    assert done.returncode == error["exit_code"] == 78
    assert error["reason"] == "SETTINGS_REFUSED"
    problems = "\n".join(error["problems"])
    assert "trust_domian: no such setting; did you mean trust_domain?" in problems
    assert f"did you mean {service.upper()}_DRAIN_S?" in problems


@pytest.mark.parametrize("service", SERVICES)
def test_a_missing_store_is_not_made_while_serving(stopped: LocalPair, service: str) -> None:
    """A store that vanished is an error, never an empty log."""
    store_of(stopped, service).unlink()

    done = run_offline(service, "serve", "--config", config_of(stopped, service))

    assert done.returncode == 78
    assert "STORE_MISSING" in done.stderr
    assert not store_of(stopped, service).exists()


@pytest.mark.parametrize("service", SERVICES)
def test_a_missing_certificate_is_named(stopped: LocalPair, service: str) -> None:
    """Which file, and what to do."""
    (stopped.certificates / f"{service}.crt").unlink()

    done = run_offline(service, "serve", "--config", config_of(stopped, service))

    assert done.returncode == 78
    assert "CREDENTIAL_REFUSED" in done.stderr
    assert f"{service}.crt: there is no such file" in done.stderr


@pytest.mark.parametrize(("service", "listener"), [("stage3", "PLANS"), ("stage4", "CLIENTS")])
def test_a_busy_port_is_named(stopped: LocalPair, service: str, listener: str) -> None:
    """The address, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        done = run_offline(
            *(service, "serve", "--config", config_of(stopped, service)),
            environment={f"{service.upper()}_LISTEN__{listener}": address},
        )

    assert done.returncode == 71
    assert "PORT_UNAVAILABLE" in done.stderr
    assert address in done.stderr
    assert f"listen.{listener.lower()}" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_one_process_per_store(command: CommandLine, service: str) -> None:
    """A second one on a running service's store ends with 75 and names the holder."""
    done = command(service, "serve", "--config", config_of(command.pair, service))

    assert done.returncode == 75
    assert "STORE_LOCKED" in done.stderr
    assert str(holder_of(store_of(command.pair, service))) in done.stderr


def test_both_services_end_with_0_on_sigterm(stopped: LocalPair) -> None:
    """Told to stop, they drain; the log says so, in JSON lines."""
    stopped.start()

    assert stopped.stop() == {"stage4": 0, "stage3": 0}

    for service in SERVICES:
        lines = [json.loads(line) for line in stopped.log_of(service).read_text().splitlines()]
        assert [line["event"] for line in lines if line["event"].startswith("stop")] == [
            *("stopping", "stopped")
        ]


def test_a_service_that_cannot_start_is_quoted(stopped: LocalPair) -> None:
    """A pair that does not come up says why, in the service's own words."""
    (stopped.certificates / "stage3.key").chmod(0o644)

    with pytest.raises(PairFailed, match="every user of this machine may read"):
        stopped.start()


def test_a_sound_log_is_verified(command: CommandLine) -> None:
    """Also while the service runs; the head can be given back later."""
    verify = ("stage3", "audit", "verify", "--config", command.pair.stage3_config)

    verdict = command.document(*verify)
    again = command.document(*verify, "--head", f"{verdict['size']}:{verdict['root']}")

    assert list(verdict) == ["verified", "store", "size", "root", "problem", "first_bad_seq"]
    assert verdict["verified"] is True
    assert again["verified"] is True


@pytest.fixture(scope="session")
def sound_store(command: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of a running service's store with some entries in it."""
    copy = tmp_path_factory.mktemp("store") / "stage3.sqlite3"
    for reason in ("first", "second"):
        command.document("stage3", "halt", "--reason", reason)
        command.document("stage3", "resume", "--reason", reason)
    with (
        sqlite3.connect(f"file:{command.pair.stage3_store}?mode=ro", uri=True) as source,
        sqlite3.connect(copy) as target,
    ):
        source.backup(target)
    source.close()
    target.close()
    return copy


@pytest.fixture
def copied_store(sound_store: Path, tmp_path: Path) -> Path:
    """Return a private copy of it, to damage."""
    return Path(shutil.copy(sound_store, tmp_path))


def change(store: Path, *statements: str) -> None:
    """Change a store as a hand with write access would: triggers away, then back."""
    database = sqlite3.connect(store)
    triggers = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
    kept = triggers.fetchall()
    for name, _sql in kept:
        database.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        database.execute(statement)
    for _name, sql in kept:
        database.execute(sql)
    database.commit()
    database.close()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE events SET leaf = CAST(replace(leaf, 'first', 'fiRst') AS BLOB)",
            "does not match the hash",
        ),
        ("UPDATE events SET event_type = 'TOKEN_ISSUED'", "column event_type"),
        ("UPDATE events SET plan_id = 'p'", "column plan_id"),
        ("UPDATE events SET token_id = 't'", "column token_id"),
        ("UPDATE events SET time_us = time_us + 1", "column time_us"),
        ("DELETE FROM events", "is missing"),
    ],
)
def test_a_bad_entry_is_named(copied_store: Path, statement: str, problem: str) -> None:
    """One changed byte or column, or a missing entry: exit code 1 and the first bad entry."""
    database = sqlite3.connect(copied_store)
    (bad,) = database.execute(
        "SELECT min(seq) FROM events WHERE event_type = 'SERVICE_HALTED' "
        "AND instr(leaf, '\"first\"') > 0"
    ).fetchone()
    database.close()
    change(copied_store, f"{statement} WHERE seq = {bad}")

    done = run_offline("stage3", "audit", "verify", "--store", copied_store, "--json")

    assert done.returncode == 1
    verdict = json.loads(done.stdout)
    assert verdict["verified"] is False
    assert verdict["first_bad_seq"] == bad
    assert problem in verdict["problem"]


def test_a_table_that_contradicts_a_sound_log_is_found(copied_store: Path) -> None:
    """The gates read the tables: a halt that the log does not know is a verdict, too."""
    change(copied_store, "INSERT INTO halt VALUES (1, 'operator', 0)")

    done = run_offline("stage3", "audit", "verify", "--store", copied_store, "--json")

    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["verified"]) == (1, False)
    assert "table of halts" in verdict["problem"]


def test_a_head_noted_earlier_must_be_contained(copied_store: Path) -> None:
    """A log that ends before it, or holds something else, is bad, however sound by itself."""
    beyond = f"999999:{'00' * 32}"
    other = f"2:{'00' * 32}"

    for head in (beyond, other):
        done = run_offline("stage3", "audit", "verify", "--store", copied_store, "--head", head)
        assert done.returncode == 1
        assert "a head kept elsewhere" in done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_verifies_its_own_log(command: CommandLine, service: str) -> None:
    """Both have one; the other's is named as what it is, and gets no verdict."""
    other = {"stage3": "stage4", "stage4": "stage3"}[service]

    own = command.document(service, "audit", "verify", "--config", config_of(command.pair, service))
    code, error = command.error(
        service, "audit", "verify", "--store", store_of(command.pair, other)
    )

    assert own["verified"] is True
    assert (code, error["reason"]) == (78, "STORE_MISMATCH")
    assert f"the store of '{other}'" in str(error["message"])
    assert f"{other} audit verify" in str(error["advice"])


def test_a_record_that_is_no_event_is_no_damage(command: CommandLine, tmp_path: Path) -> None:
    """Stage-4's log has records of another kind, and verifies with them."""
    profile = tmp_path / "operator-as-client.toml"
    profile.write_text(
        command.pair.demo_profile.read_text()
        .replace('"ca.crt"', f'"{command.pair.certificates}/ca.crt"')
        .replace('"demo.', f'"{command.pair.certificates}/operator.')
    )
    command.error("stage4", "plan", "list", "--profile", profile)
    listed = command("stage4", "audit", "list", "--profile", command.pair.auditor_profile).stdout
    verdict = command.document("stage4", "audit", "verify", "--store", command.pair.stage4_store)

    assert "caller_refused" in listed
    assert verdict["verified"] is True


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_no_store_gets_no_verdict(tmp_path: Path, service: str) -> None:
    """A text, somebody's database, a directory, a file that fails to be read: errors, not `no`."""
    text = tmp_path / "README.md"
    text.write_text("# A page\n")
    database = tmp_path / "other.sqlite3"
    with sqlite3.connect(database) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    expected = {
        text: (78, "STORE_MISMATCH"),
        database: (78, "STORE_MISMATCH"),
        tmp_path: (78, "STORE_MISSING"),
        Path("/proc/self/mem"): (74, "STORE_UNREADABLE"),
    }

    for path, (code, reason) in expected.items():
        done = run_offline(service, "audit", "verify", "--store", path)
        assert (done.returncode, done.stdout) == (code, ""), path
        assert reason in done.stderr


def test_a_file_that_may_not_be_read_gets_no_verdict(copied_store: Path) -> None:
    """A forgotten chmod is no damage to the log."""
    copied_store.chmod(0)

    done = run_unprivileged("stage3", "audit", "verify", "--store", copied_store)

    assert (done.returncode, done.stdout) == (74, "")
    assert "STORE_UNREADABLE" in done.stderr
    assert "Permission denied" in done.stderr


def test_evidence_is_verified_where_nothing_may_be_written(copied_store: Path) -> None:
    """A read-only copy in a read-only directory; nothing is left beside it anywhere."""
    beside = sorted(copied_store.parent.iterdir())
    anywhere = run_offline("stage3", "audit", "verify", "--store", copied_store)
    left = sorted(copied_store.parent.iterdir())
    copied_store.chmod(0o400)
    copied_store.parent.chmod(0o500)

    read_only = run_unprivileged("stage3", "audit", "verify", "--store", copied_store)
    copied_store.parent.chmod(0o700)

    assert (anywhere.returncode, read_only.returncode) == (0, 0), read_only.stderr
    assert left == beside


def test_there_is_no_log_to_verify(tmp_path: Path) -> None:
    """A missing file is not an empty log."""
    done = run_offline("stage3", "audit", "verify", "--store", tmp_path / "none.sqlite3")

    assert done.returncode == 78
    assert "STORE_MISSING" in done.stderr


def test_a_domains_file_is_checked_offline(tmp_path: Path) -> None:
    """What would be served, or every problem with its path and a suggestion."""
    good = run_offline("stage3", "domain", "check", DOMAINS, "--json")
    file = tmp_path / "domains.toml"
    shutil.copy(DOMAINS, file)
    file.write_text(file.read_text().replace("max_duration_s", "max_duration"))
    bad = run_offline("stage3", "domain", "check", file)

    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["valid"] is True
    assert bad.returncode == 78
    assert "max_duration_s" in bad.stderr
    assert "DECLARATIONS_REFUSED" in bad.stderr


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (("stage3", "tokn"), "token"),
        (("stage3", "token", "isue"), "issue"),
        (("stage4", "plan", "rum", "x"), "run"),
        (("stage4", "plan", "list", "--jsno"), "--json"),
    ],
)
def test_an_unknown_word_gets_a_suggestion(words: tuple[str, ...], suggestion: str) -> None:
    """Commands and options, with exit code 2."""
    done = run_offline(*words)

    assert done.returncode == 2
    assert suggestion in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_settings_must_be_named(service: str) -> None:
    """A file of the usual name in this directory is not looked for; the advice names both ways."""
    done = run_offline(service, "serve")

    assert done.returncode == 78
    assert "no settings file was named" in done.stderr
    assert f"--config FILE or {service.upper()}_CONFIG" in done.stderr
    assert "state_dir" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_profile_must_be_named(service: str) -> None:
    """There is no default caller; the advice names both ways."""
    words = {"stage3": ("status",), "stage4": ("plan", "list")}[service]

    done = run_offline(service, *words)

    assert done.returncode == 78
    assert "PROFILE_MISSING" in done.stderr
    assert f"{service.upper()}_PROFILE" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_completion_is_offered(service: str) -> None:
    """A shell can be taught the commands, and is answered what they are."""
    variable = f"_{service.upper()}_COMPLETE"
    typed = {"stage3": "stage3 tok", "stage4": "stage4 pl"}[service]

    script = run_offline(service, environment={variable: "source_bash"})
    answer = run_offline(
        service, environment={variable: "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": "1"}
    )

    assert variable in script.stdout
    assert answer.stdout.split() == [{"stage3": "token", "stage4": "plan"}[service]]
    assert "--install-completion" in run_offline(service, "--help").stdout
