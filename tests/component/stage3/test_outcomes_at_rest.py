"""What Stage-3 keeps of an answer: sealed, bound to its request, readable with its keys alone."""

from __future__ import annotations

import os
from threading import get_ident
from typing import TYPE_CHECKING

import apsw
import pytest

from servicekit.store.errors import KeyRefused
from servicekit.store.key_ring import KeyRing
from servicekit.store.key_ring_file import add_key
from servicekit.store.ledger import read_store
from stage3_service.bootstrap import build_stage3
from stage3_service.settings import STORE_FILE
from stage3_service.store.state_check import state_problem
from tests.harness.stage3 import Stage3UnderTest, running_stage3, stage3_settings, step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.harness.fixtures import Trial

CANARY = "canary-5b1f0c7e"
SCOPE = {"text": ("upper", "concat", "sha256"), "trial": ("fail", "echo", "effect")}


def raw_hits(directory: Path) -> int:
    """Count the canary in every file of the store as it lies on the disk, WAL included."""
    files = sorted((directory / "stage3").iterdir())
    assert f"{STORE_FILE}-wal" in [file.name for file in files]
    said = b"".join(file.read_bytes() for file in files)
    return sum(said.count(form) for form in (CANARY.encode(), CANARY.upper().encode()))


def run_canaries(stage3: Stage3UnderTest) -> None:
    """Put the canary into parameters, into bindings, into results, and into what is stored."""
    token = stage3.issue(scope=SCOPE)
    binding = {
        "source_step": 0,
        "source_path": "text",
        "target_step": 1,
        "target_path": "text",
    }
    answer = stage3.run(
        token.token_hash,
        step("text", "upper", text=CANARY),
        step("text", "upper", text="x"),
        step("trial", "echo", canary=CANARY),
        bindings=[binding],
    )
    assert CANARY.upper() in str(answer.outputs)
    refused = stage3.run(token.token_hash, step("text", "upper", **{CANARY: 1}))
    assert refused.reason == "PARAMETERS_INVALID"


def test_no_result_and_no_parameter_is_readable_in_the_files_of_the_store(
    tmp_path: Path, trial: Trial, record_property: Callable[[str, object], None]
) -> None:
    """Database and write-ahead log, while serving and after the stop: no canary in any of them."""
    with running_stage3(tmp_path, extra_domains=[trial.extra]) as stage3:
        run_canaries(stage3)
        serving = raw_hits(tmp_path)
    at_rest = (tmp_path / "stage3" / STORE_FILE).read_bytes().count(CANARY.encode())

    record_property("figure", f"canaries readable in the raw files of the store: {serving}")
    assert (serving, at_rest) == (0, 0)


def test_control_without_encryption_the_same_search_finds_them(
    tmp_path: Path,
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """The search is able to find: a ring that seals nothing leaves the canaries to be read."""

    def seal(ring: KeyRing, plaintext: bytes, context: Sequence[bytes]) -> tuple[str, bytes]:
        return ring.current, plaintext

    monkeypatch.setattr(KeyRing, "seal", seal)
    with running_stage3(tmp_path, extra_domains=[trial.extra]) as stage3:
        run_canaries(stage3)
        hits = raw_hits(tmp_path)

    record_property("figure", f"control, stored without encryption: {hits}")
    assert hits > 0


SWAP = "UPDATE plans SET sealed = (SELECT sealed FROM kept WHERE kept.plan_id <> plans.plan_id)"


def change_store(directory: Path, *statements: str) -> None:
    """Do with the stopped service's store what a hand with write access can do."""
    connection = apsw.Connection(str(directory / "stage3" / STORE_FILE))
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            [
                "CREATE TEMP TABLE kept AS SELECT plan_id, sealed FROM plans",
                SWAP,
            ],
            id="two rows change places",
        ),
        pytest.param(
            ["UPDATE plans SET kind = 'failed', reason = 'DOMAIN_FAILED', effects = 'none'"],
            id="a success becomes a failure",
        ),
        pytest.param(["UPDATE plans SET effects = 'none'"], id="effects are denied"),
        pytest.param(["UPDATE plans SET sealed = zeroblob(40)"], id="an outcome is made up"),
    ],
)
def test_an_outcome_that_was_changed_in_the_store_is_not_told(
    tmp_path: Path, changes: list[str]
) -> None:
    """It is LOG_CORRUPT, nothing runs, and the service goes on with everything else."""
    with running_stage3(tmp_path) as stage3:
        token = stage3.issue()
        first = stage3.request(token.token_hash, [step("text", "upper", text="one")])
        second = stage3.request(token.token_hash, [step("text", "upper", text="two")])
        assert [stage3.send(r).kind for r in (first, second)] == ["completed", "completed"]
    change_store(tmp_path, *changes)

    with running_stage3(tmp_path, create=False) as stage3:
        size = len(stage3.events())
        assert stage3.send(first).reason == "LOG_CORRUPT"
        assert len(stage3.events()) == size
        third = stage3.request(
            token.token_hash, [step("text", "upper", text="three")], plan_id="p", request_id="r"
        )
        assert stage3.send(third).outputs == [{"text": "THREE"}]


def test_a_refusal_that_follows_from_a_changed_row_is_no_refusal(tmp_path: Path) -> None:
    """A row that was given another digest does not make an honest client's request a reused one."""
    with running_stage3(tmp_path) as stage3:
        request = stage3.request(stage3.issue().token_hash, [step("text", "upper", text="one")])
        assert stage3.send(request).kind == "completed"
    change_store(tmp_path, "UPDATE plans SET plan_digest = zeroblob(32)")

    with running_stage3(tmp_path, create=False) as stage3:
        request.plan_id = "again"
        assert stage3.send(request).reason == "LOG_CORRUPT"


def test_the_writer_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay is decrypted by the thread that asks, so that a large one holds nobody else up."""
    writers: list[int] = []
    openers: list[int] = []
    genuine_seal, genuine_open = KeyRing.seal, KeyRing.open

    def seal(ring: KeyRing, plaintext: bytes, context: Sequence[bytes]) -> tuple[str, bytes]:
        writers.append(get_ident())
        return genuine_seal(ring, plaintext, context)

    def unseal(ring: KeyRing, key_id: str, sealed: bytes, context: Sequence[bytes]) -> bytes:
        openers.append(get_ident())
        return genuine_open(ring, key_id, sealed, context)

    monkeypatch.setattr(KeyRing, "seal", seal)
    monkeypatch.setattr(KeyRing, "open", unseal)
    with running_stage3(tmp_path) as stage3:
        request = stage3.request(stage3.issue().token_hash, [step("text", "upper", text="one")])
        told = stage3.send(request).ended
        assert stage3.send(request).ended == told

    assert (len(writers), len(openers)) == (1, 1)
    assert writers != openers


def test_a_hand_that_writes_its_own_token_into_the_row_is_told_nothing(tmp_path: Path) -> None:
    """Write access to the store is no way to read what somebody else was answered."""
    with running_stage3(tmp_path) as stage3:
        theirs, mine = stage3.issue(), stage3.issue()
        request = stage3.request(theirs.token_hash, [step("text", "upper", text="secret")])
        assert stage3.send(request).kind == "completed"
    change_store(
        tmp_path,
        "UPDATE plans SET token_key = "
        "(SELECT token_key FROM tokens WHERE tokens.token_id <> plans.token_id)",
    )

    with running_stage3(tmp_path, create=False) as stage3:
        request.token_hash = mine.token_hash
        assert stage3.send(request).reason == "LOG_CORRUPT"


def test_a_rotated_key_is_recorded_and_old_outcomes_are_still_told(tmp_path: Path) -> None:
    """KEY_ROTATED names both keys; what the old one sealed is answered byte for byte."""
    with running_stage3(tmp_path) as stage3:
        token = stage3.issue()
        old = stage3.request(token.token_hash, [step("text", "upper", text="old")])
        told = stage3.send(old)
    previous, key_id = add_key(tmp_path / "outcome.keys", os.urandom)

    for _start in range(2):
        with running_stage3(tmp_path, create=False) as stage3:
            (event,) = stage3.events(event_type="KEY_ROTATED")
            assert event["additional_data"] == {"key_id": key_id, "previous_key_id": previous}
            assert stage3.send(old).ended == told.ended
    with running_stage3(tmp_path, create=False) as stage3:
        new = stage3.request(
            token.token_hash, [step("text", "upper", text="new")], plan_id="p", request_id="r"
        )
        assert stage3.send(new).kind == "completed"
    names = read_store(
        tmp_path / "stage3" / STORE_FILE,
        lambda reader: reader.rows("SELECT key_id FROM plans ORDER BY admitted_us"),
    )
    assert names == [(previous,), (key_id,)]


def test_a_log_that_does_not_know_of_a_key_contradicts_the_store(tmp_path: Path) -> None:
    """Whoever puts a key of his own into the table has to put it into the log."""
    with running_stage3(tmp_path) as stage3:
        stage3.issue()
    store = tmp_path / "stage3" / STORE_FILE
    assert read_store(store, state_problem) is None
    change_store(tmp_path, "INSERT INTO outcome_keys VALUES (9, 'ffffffffffffffff', 1)")

    problem = read_store(store, state_problem)

    assert problem is not None
    assert "outcome keys" in problem


def one_outcome(directory: Path) -> None:
    """Leave a stopped service with one stored outcome."""
    with running_stage3(directory) as stage3:
        token = stage3.issue()
        assert stage3.run(token.token_hash, step("text", "upper", text="a")).kind == "completed"


@pytest.mark.parametrize("outcomes", [0, 1])
def test_another_ring_is_refused_before_anything_is_served(tmp_path: Path, outcomes: int) -> None:
    """The sentence names the file and the key that is missing; exit code 78."""
    if outcomes:
        one_outcome(tmp_path)
    else:
        with running_stage3(tmp_path):
            pass
    keys = tmp_path / "outcome.keys"
    keys.write_text("00" * 32 + "\n")

    with pytest.raises(KeyRefused, match="lacks the key") as refused:
        build_stage3(stage3_settings(tmp_path))

    assert refused.value.exit_code == 78
    assert str(keys) in str(refused.value)


def test_a_key_can_go_only_when_nothing_is_sealed_with_it(tmp_path: Path) -> None:
    """An old key that outcomes need is missed; one that none needs may be removed."""
    one_outcome(tmp_path)
    keys = tmp_path / "outcome.keys"
    add_key(keys, os.urandom)
    with running_stage3(tmp_path, create=False):
        pass
    only_new = keys.read_text().splitlines()[-1] + "\n"
    keys.write_text(only_new)

    with pytest.raises(KeyRefused, match="lacks the key"):
        build_stage3(stage3_settings(tmp_path))
    change_store(tmp_path, "DELETE FROM plans")
    with running_stage3(tmp_path, create=False) as stage3:
        assert len(stage3.events(event_type="KEY_ROTATED")) == 1


def test_a_start_without_its_ring_is_refused(tmp_path: Path) -> None:
    """The store is there and its keys are not: nothing makes new ones."""
    one_outcome(tmp_path)
    (tmp_path / "outcome.keys").unlink()

    with pytest.raises(KeyRefused, match="no such file"):
        build_stage3(stage3_settings(tmp_path))
    assert not (tmp_path / "outcome.keys").exists()
