"""The log is append-only, fails closed, survives, and shows every tampering."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING

import apsw
import pytest
from stagegate.stage3.v1 import audit_service_pb2

from servicekit.store.errors import StoreCorrupt, StoreMissing
from servicekit.store.ledger import verify_log
from servicekit.tlog.tree import leaf_hash
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import DurableIntent, Journal
from stage3_service.settings import STORE_FILE
from stage3_service.wire.method_tables import operator_methods, plan_methods
from tests.fakes.domains import trial_domain
from tests.fakes.faulty_disk import Fault, FaultyDisk
from tests.harness.stage3 import running_stage3, step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.fixtures import Trial

SCOPE = {"trial": ("echo", "effect", "hang")}
EFFECT = step("trial", "effect")


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """Return the store of a Stage-3 that ran two plans and stopped."""
    extra, _ = trial_domain()
    with running_stage3(tmp_path, extra_domains=[extra]) as stage3:
        token = stage3.issue(scope=SCOPE)
        for _ in range(2):
            assert stage3.run(token.token_hash, EFFECT).kind == "completed"
    return tmp_path / "stage3" / STORE_FILE


@pytest.fixture
def edit(stopped: Path) -> Iterator[apsw.Connection]:
    """Return a connection of somebody with write access to the file."""
    connection = apsw.Connection(str(stopped))
    yield connection
    connection.close()


def unlock(connection: apsw.Connection) -> None:
    """Remove the triggers, as somebody with write access can."""
    connection.execute("DROP TRIGGER events_never_change; DROP TRIGGER events_never_go")


def relock(connection: apsw.Connection, statements: list[str]) -> None:
    """Put the triggers back, to hide that they were gone."""
    for statement in statements:
        connection.execute(statement)


def triggers(connection: apsw.Connection) -> list[str]:
    """Return the statements that made the triggers."""
    return [
        str(row[0])
        for row in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")
    ]


class TestAppendOnly:
    """Nothing in the service changes an entry, and the store refuses who tries by mistake."""

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE events SET leaf = x'00' WHERE seq = 3",
            "UPDATE events SET event_type = 'X'",
            "DELETE FROM events WHERE seq = 3",
            "DELETE FROM events",
        ],
    )
    def test_the_store_refuses_to_change_an_entry(
        self, edit: apsw.Connection, statement: str
    ) -> None:
        """A trigger raises on every update and every deletion."""
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            edit.execute(statement)

    def test_no_door_has_a_method_that_changes_the_log(self) -> None:
        """The audit service lists and shows; the tables name nothing else of it."""
        rules = {*plan_methods(reflection=False).rules, *operator_methods(reflection=False).rules}
        audit = {rule.rpartition("/")[2] for rule in rules if "AuditService" in rule}
        assert audit == {"ListEvents", "GetCheckpoint"}

    def test_the_journal_has_one_verb(self) -> None:
        """It records decisions; there is no way to remove, edit, filter or silence."""
        assert [name for name in vars(Journal) if not name.startswith("_")] == ["record"]

    def test_an_event_is_frozen(self) -> None:
        """What was said is not changed on its way to the log."""
        event = NewEvent(EventType.TOKEN_ISSUED, Status.SUCCESS)
        with pytest.raises(FrozenInstanceError):
            event.status = Status.DENIED  # type: ignore[misc]  # the attempt

    def test_only_the_journal_makes_a_durable_intent(self) -> None:
        """What invokes a domain cannot be constructed without a commit."""
        with pytest.raises(TypeError, match="made by the journal"):
            DurableIntent(object(), _mint=object())  # type: ignore[arg-type]  # the attempt


class TestItSurvives:
    """Entries are there after a restart, byte for byte, and the tree goes on from them."""

    def test_a_restart_continues_the_same_log(self, stopped: Path) -> None:
        """The old entries are a prefix of the new log."""
        before = [
            row[0]
            for row in apsw.Connection(str(stopped)).execute("SELECT leaf FROM events ORDER BY seq")
        ]
        extra, _ = trial_domain()
        with running_stage3(stopped.parent.parent, extra_domains=[extra], create=False) as stage3:
            token = stage3.issue(scope=SCOPE)
            request = stage3.request(
                token.token_hash, [EFFECT], plan_id="after", request_id="after"
            )
            assert stage3.send(request).kind == "completed"
            page = stage3.audit().ListEvents(audit_service_pb2.ListEventsRequest(), timeout=5)
        leaves = [event.event_json for event in page.events]
        assert leaves[: len(before)] == before
        assert len(leaves) == len(before) + 1 + 1 + 6

    def test_the_published_root_is_the_root_of_the_stored_bytes(self, stopped: Path) -> None:
        """Recomputed by hand from the leaves, level by level (RFC 9162)."""
        leaves = [
            bytes(row[0])
            for row in apsw.Connection(str(stopped)).execute("SELECT leaf FROM events ORDER BY seq")
        ]

        def root(hashes: list[bytes]) -> bytes:
            if len(hashes) == 1:
                return hashes[0]
            split = 1
            while split * 2 < len(hashes):
                split *= 2
            import hashlib

            return hashlib.sha256(b"\x01" + root(hashes[:split]) + root(hashes[split:])).digest()

        verdict = verify_log(stopped)
        assert (verdict.size, verdict.problem) == (len(leaves), None)
        assert verdict.root == root([leaf_hash(leaf) for leaf in leaves])

    def test_a_missing_store_is_never_created_by_serving(self, stopped: Path) -> None:
        """An empty log in place of a lost one would be the perfect tampering."""
        for path in stopped.parent.glob(STORE_FILE + "*"):
            path.unlink()
        with (
            pytest.raises(StoreMissing),
            running_stage3(stopped.parent.parent, create=False),
        ):
            raise AssertionError


TAMPERINGS = {
    "edit-a-leaf": (
        "UPDATE events SET leaf = CAST(replace(CAST(leaf AS TEXT), 'manual', 'MANUAL') AS BLOB) "
        "WHERE seq = 1"
    ),
    "drop-the-last": "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
    "drop-one-between": "DELETE FROM events WHERE seq = 4",
    "drop-the-first": "DELETE FROM events WHERE seq = 0",
    "swap-two": (
        "UPDATE events SET seq = -1 WHERE seq = 3; UPDATE events SET seq = 3 WHERE seq = 4; "
        "UPDATE events SET seq = 4 WHERE seq = -1"
    ),
    "forge-one-more": (
        "INSERT INTO events SELECT max(seq) + 1, leaf, hashes, event_type, plan_id, token_id, "
        "time_us FROM events"
    ),
    "roll-the-head-back": "UPDATE ledger_head SET size = size - 1",
    "change-the-root": "UPDATE ledger_head SET root = zeroblob(32)",
}


class TestTamperingIsFound:
    """Whoever edits the file is found, by the verifier and by the service that starts on it."""

    @pytest.mark.parametrize("how", TAMPERINGS)
    def test_it_is_found_and_the_service_does_not_start(
        self, stopped: Path, edit: apsw.Connection, how: str
    ) -> None:
        """The verdict names a problem, and serving is refused."""
        assert verify_log(stopped).problem is None
        statements = triggers(edit)
        unlock(edit)
        edit.execute(TAMPERINGS[how])
        relock(edit, statements)
        edit.close()
        assert verify_log(stopped).problem is not None
        with (
            pytest.raises(StoreCorrupt),
            running_stage3(stopped.parent.parent, create=False),
        ):
            raise AssertionError

    def test_the_first_bad_entry_is_named(self, stopped: Path, edit: apsw.Connection) -> None:
        """An edited leaf is found at its own position."""
        statements = triggers(edit)
        unlock(edit)
        edit.execute(TAMPERINGS["edit-a-leaf"])
        relock(edit, statements)
        edit.close()
        assert verify_log(stopped).first_bad_seq == 1

    def test_missing_triggers_are_tampering_too(self, stopped: Path, edit: apsw.Connection) -> None:
        """A store that no longer refuses changes is not served from."""
        unlock(edit)
        edit.close()
        with (
            pytest.raises(StoreCorrupt),
            running_stage3(stopped.parent.parent, create=False),
        ):
            raise AssertionError


class TestItFailsClosed:
    """When the log cannot be written, nothing is started and nothing is told as done."""

    @pytest.mark.parametrize("fault", list(Fault))
    def test_a_failing_disk_starts_nothing(
        self, tmp_path: Path, trial: Trial, fault: Fault
    ) -> None:
        """AUDIT_UNAVAILABLE: the domain was never called; the next call is refused the same way."""
        disk = FaultyDisk()
        with running_stage3(tmp_path, extra_domains=[trial.extra], vfs=disk.name) as stage3:
            token = stage3.issue(scope=SCOPE)
            disk.arm(0, fault, forever=True)
            answers = [stage3.run(token.token_hash, EFFECT) for _ in range(2)]
            assert [(a.kind, a.reason) for a in answers] == [("refused", "AUDIT_UNAVAILABLE")] * 2
            assert trial.domain.received == []
            disk.release.set()

    def test_an_effect_that_cannot_be_recorded_is_told_as_such(
        self, tmp_path: Path, trial: Trial
    ) -> None:
        """INTERNAL OUTCOME_UNRECORDED, never UNAVAILABLE; after a restart the step is in doubt."""
        disk = FaultyDisk()
        with running_stage3(tmp_path, extra_domains=[trial.extra], vfs=disk.name) as stage3:
            token = stage3.issue(scope=SCOPE)
            request = stage3.request(token.token_hash, [step("trial", "effect"), EFFECT])

            class ThenTheDiskDies(list[str]):
                def append(self, key: str) -> None:
                    super().append(key)
                    disk.arm(0, Fault.EIO, forever=True)

            trial.domain.effects = ThenTheDiskDies()
            answer = stage3.send(request)
            assert answer.error is not None
            assert (answer.error.code, answer.reason) == ("INTERNAL", "OUTCOME_UNRECORDED")
            assert trial.domain.effects == ["plan-1/0"]
        disk.armed = False
        with running_stage3(tmp_path, extra_domains=[trial.extra], create=False) as again:
            assert again.service.recovered_plans == 1
            assert again.send(request).kind == "in_doubt"
        assert trial.domain.effects == ["plan-1/0"]

    def test_a_revocation_that_cannot_be_recorded_is_not_told_as_done(
        self, tmp_path: Path, trial: Trial
    ) -> None:
        """An operator who is told `revoked` may rely on it."""
        import grpc

        disk = FaultyDisk()
        with running_stage3(tmp_path, extra_domains=[trial.extra], vfs=disk.name) as stage3:
            token = stage3.issue(scope=SCOPE)
            disk.arm(0, Fault.ENOSPC, forever=True)
            with pytest.raises(grpc.RpcError) as refused:
                stage3.revoke(token.token.token_id)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


class TestNoSecretIsWritten:
    """A stolen store replays nothing."""

    def test_no_credential_is_in_the_store(self, tmp_path: Path, trial: Trial) -> None:
        """Neither in the file nor in its write-ahead log."""
        with running_stage3(tmp_path, extra_domains=[trial.extra]) as stage3:
            token = stage3.issue(scope=SCOPE)
            stage3.run(token.token_hash, EFFECT)
            for path in (tmp_path / "stage3").iterdir():
                assert token.token_hash.encode() not in path.read_bytes(), path

    def test_no_parameter_is_in_the_log(self, tmp_path: Path, trial: Trial) -> None:
        """Values enter as salted commitments only."""
        with running_stage3(tmp_path, extra_domains=[trial.extra]) as stage3:
            token = stage3.issue(scope=SCOPE)
            stage3.run(token.token_hash, step("trial", "echo", word="QUARTZ"))
            assert "QUARTZ" not in json.dumps(stage3.events())
