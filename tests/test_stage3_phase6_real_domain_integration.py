"""Phase 6: real domains, through their adapters and with everything that stands before and behind.

Each case takes the way of a step: the parameters are parsed strictly, the method is looked up in
the catalogue, its schema is asked, the domain is invoked behind its time limit, and the answer is
read as untrusted input. The builtin domains come first, then a service over gRPC, then MCP servers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from stage3_service.adapters.declarations_file import builtin_catalogue, read_declarations
from stage3_service.adapters.registry import (
    OpenDomains,
    create_domain_state,
    notebook_path,
    open_domains,
)
from stage3_service.domains.answer import AnswerInvalid, read_answer
from stage3_service.domains.declaration import Catalogue, Repetition
from stage3_service.domains.port import (
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
)
from tests.fakes.domains import METHODS, RAW_ANSWERS, TrialDomain, trial_domain
from tests.fakes.remote_domain import FURTHER_METHODS, running_remote_domain
from tests.harness.eventually import PATIENCE_S
from tests.harness.fixtures import Trial
from tests.harness.mcp import mcp_table, node_keys, python_keys
from tests.harness.remote import (
    domain_client,
    remote_methods,
    write_domains_file,
)
from tests.harness.stage3 import Answer, Stage3UnderTest, running_stage3, step

EXAMPLES = Path(__file__).parent.parent / "examples"
KIBIBYTE = 1024


class ParametersInvalid(Exception):
    """What gate 4 would deny, with its reason."""


class MethodDidFail(Exception):
    """What the method answered instead of an output."""


@dataclasses.dataclass
class _House:
    """The declared domains, opened; `run` takes a step's way through them."""

    opened: OpenDomains
    trial: TrialDomain
    state_dir: Path

    def run(
        self,
        domain: str,
        method: str,
        parameters: object,
        *,
        key: str = "plan/0",
        deadline_s: float = 20.0,
    ) -> JsonValue:
        raw = parameters if isinstance(parameters, bytes) else json.dumps(parameters).encode()
        declared = self.opened.catalogue.method(domain, method)
        assert declared is not None
        assert declared.validator is not None
        error = declared.validator.first_error(parse(raw, JsonLimits()).value)
        if error is not None:
            raise ParametersInvalid(error)
        answer = self.opened.domains[domain].invoke(Invocation(method, raw, deadline_s, key))
        if isinstance(answer, MethodFailed):
            raise MethodDidFail(answer.message)
        return read_answer(answer.json_bytes, declared.max_response_bytes)

    def failure(self, domain: str, method: str, parameters: object, key: str = "p/0") -> str:
        with pytest.raises(MethodDidFail) as caught:
            self.run(domain, method, parameters, key=key)
        return str(caught.value)

    def notes(self) -> list[tuple[Any, ...]]:
        """Read the notes with a connection of the test's own: the visible effect."""
        path = notebook_path(self.state_dir, "notebook")
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        rows = list(connection.execute("SELECT idempotency_key, title, text FROM note"))
        connection.close()
        return rows


def _open(state_dir: Path, catalogue: Catalogue) -> _House:
    extra, trial = trial_domain(max_duration_s=20.0)
    create_domain_state(catalogue, state_dir)
    opened = open_domains(
        catalogue,
        state_dir,
        on_late=lambda key, answer: None,
        on_raised=lambda raised: None,
        extra_domains=[extra],
    )
    return _House(opened, trial, state_dir)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[_House]:
    """Both builtin domains with all their methods, and the trial domain."""
    made = _open(tmp_path, builtin_catalogue())
    yield made
    made.trial.release.set()
    made.opened.close()


class TestText:
    """The builtin domain `text`: what each method answers."""

    @pytest.mark.parametrize(
        ("method", "parameters", "answer"),
        [
            ("upper", {"text": "plain"}, {"text": "PLAIN"}),
            ("upper", {"text": "straße"}, {"text": "STRASSE"}),
            ("upper", {"text": "\u0390"}, {"text": "\u0399\u0308\u0301"}),
            ("upper", {"text": ""}, {"text": ""}),
            ("lower", {"text": "ÀÉÎ"}, {"text": "àéî"}),
            ("lower", {"text": "ΟΔΟΣ"}, {"text": "οδος"}),
            ("lower", {"text": "İ"}, {"text": "i̇"}),
            ("trim", {"text": "\u2003 x y \u00a0\n"}, {"text": "x y"}),
            ("trim", {"text": "\u200bx"}, {"text": "\u200bx"}),
            ("concat", {"parts": ["a", "b"], "separator": ", "}, {"text": "a, b"}),
            ("concat", {"parts": [], "separator": "x"}, {"text": ""}),
            ("concat", {"parts": ["👩", "💻"], "separator": "\u200d"}, {"text": "👩\u200d💻"}),
            ("replace", {"text": "aaa", "old": "aa", "new": "b"}, {"text": "ba"}),
            ("replace", {"text": "abc", "old": "x", "new": "y"}, {"text": "abc"}),
            ("replace", {"text": "a.c", "old": ".", "new": ""}, {"text": "ac"}),
            ("split", {"text": ",a,,b", "separator": ","}, {"parts": ["", "a", "", "b"]}),
            ("split", {"text": "", "separator": ","}, {"parts": [""]}),
            ("word_count", {"text": " two\twords\n"}, {"words": 2}),
            ("word_count", {"text": "\u3000\u00a0"}, {"words": 0}),
        ],
    )
    def test_a_method_answers_what_it_says(
        self, house: _House, method: str, parameters: JsonValue, answer: JsonValue
    ) -> None:
        """Full Unicode case mapping, Unicode white space, literal separators."""
        assert house.run("text", method, parameters) == answer

    @pytest.mark.parametrize(
        ("text", "digest"),
        [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ],
    )
    def test_sha256_agrees_with_the_published_vectors(
        self, house: _House, text: str, digest: str
    ) -> None:
        """FIPS 180-4's own examples."""
        assert house.run("text", "sha256", {"text": text}) == {"sha256": digest}

    def test_sha256_is_of_the_utf8_bytes_however_they_were_escaped(self, house: _House) -> None:
        """An escape and the character itself are the same text."""
        digest = hashlib.sha256("é😀".encode()).hexdigest()
        for raw in ('{"text":"é😀"}'.encode(), b'{"text":"\\u00e9\\ud83d\\ude00"}'):
            assert house.run("text", "sha256", raw) == {"sha256": digest}

    @pytest.mark.parametrize(
        ("method", "parameters", "error"),
        [
            ("upper", {}, '"text" is a required property'),
            ("upper", {"text": None}, "text: "),
            ("upper", {"text": 1}, "text: "),
            ("upper", {"text": ["a"]}, "text: "),
            ("upper", {"text": "a", "locale": "tr"}, "locale"),
            ("upper", {"Text": "a"}, "Text"),
            ("concat", {"parts": "ab", "separator": ""}, "parts: "),
            ("concat", {"parts": ["a", 1], "separator": ""}, "parts.1: "),
            ("concat", {"parts": ["a"]}, '"separator" is a required property'),
            ("concat", {"parts": [""] * 1025, "separator": ""}, "parts: "),
            ("replace", {"text": "a", "old": "", "new": "b"}, "old: "),
            ("split", {"text": "a", "separator": ""}, "separator: "),
            ("sha256", {"text": "a", "encoding": "utf-16"}, "encoding"),
        ],
    )
    def test_parameters_that_do_not_fit_are_refused_before_the_call(
        self, house: _House, method: str, parameters: JsonValue, error: str
    ) -> None:
        """The declared schema is closed: nothing missing, nothing unknown, nothing converted."""
        with pytest.raises(ParametersInvalid) as caught:
            house.run("text", method, parameters)
        assert error in str(caught.value)

    @pytest.mark.parametrize("method", ["upper", "concat", "replace", "split", "sha256"])
    def test_a_domain_refuses_unfit_parameters_even_if_nobody_asked_its_schema(
        self, house: _House, method: str
    ) -> None:
        """The second lock behind gate 4: a failure that names the member and quotes no value."""
        answer = house.opened.domains["text"].invoke(
            Invocation(method, b'{"text":31337,"parts":31337}', 5.0, "plan/0")
        )
        assert isinstance(answer, MethodFailed)
        assert "31337" not in answer.message

    def test_the_longest_text_is_taken(self, house: _House) -> None:
        """64 KiB of one-byte characters is what a plan can carry in one string."""
        text = "a" * (64 * KIBIBYTE)
        assert house.run("text", "upper", {"text": text}) == {"text": "A" * (64 * KIBIBYTE)}

    def test_a_longer_text_never_gets_that_far(self, house: _House) -> None:
        """The strict parser refuses it first."""
        with pytest.raises(JsonRefused):
            house.run("text", "upper", {"text": "a" * (64 * KIBIBYTE + 1)})

    def test_a_text_that_grows_with_its_case_stays_within_the_bound(self, house: _House) -> None:
        """The worst growth of Unicode's upper case is three times the bytes."""
        text = "ΐ" * (32 * KIBIBYTE)
        answer = house.run("text", "upper", json.dumps({"text": text}, ensure_ascii=False).encode())
        assert answer == {"text": text.upper()}
        assert len(text.upper().encode()) == 3 * len(text.encode())

    def test_a_result_over_the_bound_is_a_failure_that_says_so(self, house: _House) -> None:
        """Four texts of 64 KiB fit into no single answer once they are joined and quoted."""
        parts = ["a" * 60_000] * 4
        message = house.failure("text", "concat", {"parts": parts, "separator": '"' * 10_000})
        assert message == "the result would have 270000 characters"
        message = house.failure("text", "concat", {"parts": parts, "separator": '"' * 5_000})
        assert message == "the result has 270011 bytes, 262144 are allowed"

    def test_an_exploding_replacement_is_refused_before_it_is_built(self, house: _House) -> None:
        """64 KiB times 30 KiB would be two gigabytes."""
        parameters: JsonValue = {"text": "a" * 65_536, "old": "a", "new": "b" * 30_000}
        message = house.failure("text", "replace", parameters)
        assert message == "the result would have 1966080000 characters"

    def test_too_many_parts_are_refused_before_they_are_built(self, house: _House) -> None:
        """1,024 parts are allowed, inclusive."""
        split = house.run("text", "split", {"text": "," * 1023, "separator": ","})
        assert split == {"parts": [""] * 1024}
        message = house.failure("text", "split", {"text": "," * 1024, "separator": ","})
        assert message == "the text has 1025 parts, 1024 are allowed"

    def test_a_shrinking_replacement_of_everything_is_empty(self, house: _House) -> None:
        """The bound is on the result, not on what is replaced."""
        parameters: JsonValue = {"text": "ab" * 30_000, "old": "ab", "new": ""}
        assert house.run("text", "replace", parameters) == {"text": ""}

    def test_many_callers_at_once_get_their_own_answers(self, house: _House) -> None:
        """The domain holds no state to mix up."""
        with ThreadPoolExecutor(8) as callers:
            answers = list(
                callers.map(lambda n: house.run("text", "upper", {"text": f"n{n}"}), range(200))
            )
        assert answers == [{"text": f"N{number}"} for number in range(200)]

    def test_without_time_left_nothing_is_computed(self, house: _House) -> None:
        """The rule for every domain, also for one that needs no time limit."""
        with pytest.raises(DomainUnreachable, match="no time was left"):
            house.run("text", "upper", {"text": "a"}, deadline_s=0)

    def test_an_undeclared_method_cannot_be_called(self, house: _House) -> None:
        """Neither by another name nor by the name of a Python attribute."""
        for method in ("Upper", "invoke", "__class__", "eval", "upper "):
            assert house.opened.catalogue.method("text", method) is None
            with pytest.raises(DomainUnreachable, match="does not declare"):
                house.opened.domains["text"].invoke(Invocation(method, b"{}", 5.0, "plan/0"))


class TestNotebook:
    """The builtin domain `notebook`: a visible effect, once per idempotency key."""

    def test_a_note_is_visible_outside_the_service(self, house: _House) -> None:
        """The effect is a row that another program reads."""
        note = {"title": "First", "text": "line one\nline two"}
        assert house.run("notebook", "append_note", note) == {"note_id": 1}
        assert house.notes() == [("plan/0", "First", "line one\nline two")]

    def test_a_note_is_read_back_as_it_was_written(self, house: _House) -> None:
        """Unicode, quotes and what looks like SQL are text."""
        text = '\'); DROP TABLE note; -- "☃" 😀 \u202e'
        house.run("notebook", "append_note", {"title": "☃'--", "text": text})
        read = house.run("notebook", "read_note", {"note_id": 1}, key="plan/1")
        assert read == {"note_id": 1, "title": "☃'--", "text": text}

    def test_an_empty_text_is_a_text(self, house: _House) -> None:
        """Only the title must not be empty."""
        assert house.run("notebook", "append_note", {"title": "t", "text": ""}) == {"note_id": 1}

    def test_the_same_key_writes_once_and_answers_the_same(self, house: _House) -> None:
        """Fencing: the domain's own memory of the key, not the caller's restraint."""
        note = {"title": "t", "text": "x"}
        first = house.run("notebook", "append_note", note, key="plan/4")
        assert house.run("notebook", "append_note", note, key="plan/4") == first
        assert len(house.notes()) == 1

    def test_the_same_key_with_another_note_is_a_failure(self, house: _House) -> None:
        """And the first note stays as it is."""
        house.run("notebook", "append_note", {"title": "t", "text": "x"}, key="plan/4")
        message = house.failure("notebook", "append_note", {"title": "t", "text": "y"}, "plan/4")
        assert message == "the idempotency key has written another note"
        assert house.notes() == [("plan/4", "t", "x")]

    def test_two_steps_of_one_plan_write_two_notes(self, house: _House) -> None:
        """The key names the step, not the plan."""
        for number in range(2):
            note = {"title": "t", "text": "x"}
            house.run("notebook", "append_note", note, key=f"plan/{number}")
        assert [row[0] for row in house.notes()] == ["plan/0", "plan/1"]

    def test_a_page_lists_titles_in_the_order_of_writing(self, house: _House) -> None:
        """The next page starts after the last number of this one."""
        for number in range(5):
            note = {"title": f"n{number}", "text": ""}
            house.run("notebook", "append_note", note, key=f"p/{number}")
        page = house.run("notebook", "list_notes", {"after_note_id": 2, "limit": 2})
        assert page == {"notes": [{"note_id": 3, "title": "n2"}, {"note_id": 4, "title": "n3"}]}

    def test_a_page_after_the_last_note_is_empty(self, house: _House) -> None:
        """An end is not an error."""
        page = house.run("notebook", "list_notes", {"after_note_id": 9, "limit": 100})
        assert page == {"notes": []}

    def test_a_full_page_of_the_longest_titles_fits_into_the_declared_bound(
        self, house: _House
    ) -> None:
        """100 titles of 200 characters of four bytes, and twice the bytes when escaped."""
        for number, character in enumerate(["😀", '"', "\u0001"] * 34):
            note = {"title": character * 200, "text": ""}
            house.run("notebook", "append_note", note, key=f"p/{number}")
        page = house.run("notebook", "list_notes", {"after_note_id": 0, "limit": 100})
        assert isinstance(page, dict)
        assert isinstance(page["notes"], list)
        assert len(page["notes"]) == 100

    def test_the_largest_note_is_read_back_within_the_declared_bound(self, house: _House) -> None:
        """Text that needs six bytes a character in JSON is the worst case a plan can carry."""
        text = "\u0001" * 40_000
        house.run("notebook", "append_note", {"title": "t", "text": text})
        read = house.run("notebook", "read_note", {"note_id": 1}, key="p/1")
        assert read == {"note_id": 1, "title": "t", "text": text}

    def test_a_note_that_is_not_there_is_a_failure(self, house: _House) -> None:
        """Also for the largest number JSON can name."""
        for note_id in (1, 2**53 - 1):
            message = house.failure("notebook", "read_note", {"note_id": note_id})
            assert message == "there is no note of this number"

    def test_an_integer_may_be_spelled_with_a_point(self, house: _House) -> None:
        """To JSON Schema 1.0 is an integer, so it is one to the domain too."""
        house.run("notebook", "append_note", {"title": "t", "text": "x"})
        read = house.run("notebook", "read_note", b'{"note_id":1.0}', key="p/1")
        assert read == {"note_id": 1, "title": "t", "text": "x"}

    @pytest.mark.parametrize(
        ("method", "parameters", "error"),
        [
            ("append_note", {"title": "t"}, '"text" is a required property'),
            ("append_note", {"title": "", "text": ""}, "title: "),
            ("append_note", {"title": "t" * 201, "text": ""}, "title: "),
            (
                "append_note",
                {"title": "t", "text": "", "idempotency_key": "p/9"},
                "idempotency_key",
            ),
            ("read_note", {"note_id": 0}, "note_id: "),
            ("read_note", {"note_id": -1}, "note_id: "),
            ("read_note", {"note_id": "1"}, "note_id: "),
            ("read_note", {"note_id": True}, "note_id: "),
            ("read_note", {"note_id": 1.5}, "note_id: "),
            ("list_notes", {"after_note_id": 0, "limit": 0}, "limit: "),
            ("list_notes", {"after_note_id": 0, "limit": 101}, "limit: "),
            ("list_notes", {"after_note_id": -1, "limit": 1}, "after_note_id: "),
            ("list_notes", {}, "is a required property"),
        ],
    )
    def test_parameters_that_do_not_fit_leave_no_note(
        self, house: _House, method: str, parameters: JsonValue, error: str
    ) -> None:
        """They are refused before the call, by name."""
        with pytest.raises(ParametersInvalid) as caught:
            house.run("notebook", method, parameters)
        assert error in str(caught.value)
        assert house.notes() == []

    @pytest.mark.parametrize(
        "raw", [b"{}", b"[]", b"", b"\xff", b'{"title":1,"text":"x"}', b'{"title":"t","text":null}']
    )
    def test_unfit_parameters_have_no_effect_even_if_nobody_asked_the_schema(
        self, house: _House, raw: bytes
    ) -> None:
        """The second lock behind gate 4."""
        answer = house.opened.domains["notebook"].invoke(
            Invocation("append_note", raw, 5.0, "plan/0")
        )
        assert isinstance(answer, MethodFailed)
        assert house.notes() == []

    def test_concurrent_steps_write_each_their_note(self, house: _House) -> None:
        """32 plans at once, one file, no note lost and none twice."""

        def write(number: int) -> JsonValue:
            note = {"title": f"n{number}", "text": ""}
            return house.run("notebook", "append_note", note, key=f"p{number}/0")

        with ThreadPoolExecutor(32) as callers:
            answers = list(callers.map(write, range(64)))
        assert len({json.dumps(answer) for answer in answers}) == 64
        assert sorted(row[0] for row in house.notes()) == sorted(f"p{n}/0" for n in range(64))

    def test_a_note_survives_a_restart_and_so_does_its_key(self, tmp_path: Path) -> None:
        """Opened again, the notebook still knows what each key has written."""
        first = _open(tmp_path, builtin_catalogue())
        first.run("notebook", "append_note", {"title": "t", "text": "x"}, key="plan/0")
        first.opened.close()
        second = _open(tmp_path, builtin_catalogue())
        answer = second.run("notebook", "append_note", {"title": "t", "text": "x"}, key="plan/0")
        second.opened.close()
        assert answer == {"note_id": 1}
        assert len(second.notes()) == 1

    def test_after_the_close_nothing_is_written(self, house: _House) -> None:
        """A drained service has no effect any more."""
        house.opened.close()
        with pytest.raises(DomainUnreachable):
            house.run("notebook", "append_note", {"title": "t", "text": "x"})
        assert house.notes() == []

    def test_a_foreign_lock_is_a_failure_without_effect(self, house: _House) -> None:
        """Another program that holds the file costs one failed step, not a hanging plan."""
        other = apsw.Connection(str(notebook_path(house.state_dir, "notebook")))
        other.execute("BEGIN IMMEDIATE")
        message = house.failure("notebook", "append_note", {"title": "t", "text": "x"})
        other.execute("ROLLBACK")
        other.close()
        assert message == "the note could not be written"
        assert house.notes() == []

    def test_what_each_method_promises_on_repetition_is_declared(self, house: _House) -> None:
        """Only the method that writes needs to fence."""
        declared = house.opened.catalogue.domains["notebook"].methods
        assert {name: method.repetition for name, method in declared.items()} == {
            "append_note": Repetition.FENCING,
            "read_note": Repetition.IDEMPOTENT,
            "list_notes": Repetition.IDEMPOTENT,
        }


class TestADomainThatMisbehaves:
    """The same adapters around a domain that hangs, raises, or answers garbage."""

    @pytest.mark.parametrize("name", RAW_ANSWERS)
    def test_garbage_is_an_invalid_answer(self, house: _House, name: str) -> None:
        """The effect may have happened; what was answered is passed on to nobody."""
        with pytest.raises(AnswerInvalid):
            house.run("trial", name, {})

    def test_a_hang_is_silence_and_later_calls_go_on(self, house: _House) -> None:
        """The plan is told in time; the next plan is not made to wait."""
        with pytest.raises(DomainSilent):
            house.run("trial", "hang", {}, deadline_s=0.05)
        assert house.run("trial", "echo", {"a": 1}) == {"a": 1}

    def test_a_hanging_domain_does_not_touch_another(self, house: _House) -> None:
        """The cap on calls left behind is each domain's own."""
        for number in range(8):
            with pytest.raises(DomainSilent):
                house.run("trial", "hang", {}, key=f"p/{number}", deadline_s=0.02)
        with pytest.raises(DomainUnreachable, match="8 earlier calls"):
            house.run("trial", "echo", {})
        assert house.run("notebook", "append_note", {"title": "t", "text": ""}) == {"note_id": 1}
        assert house.run("text", "upper", {"text": "a"}) == {"text": "A"}

    @pytest.mark.parametrize("method", ["raise_error", "exit_process", "no_answer", "fail"])
    def test_a_failure_of_any_kind_is_a_failed_method(self, house: _House, method: str) -> None:
        """Raising, ending the process, returning nothing: none of it reaches the caller."""
        message = house.failure("trial", method, {"password": "hunter2"})
        assert "hunter2" not in message
        assert threading.main_thread().is_alive()


class TestTheDomainsFile:
    """The example file, served."""

    @pytest.fixture
    def narrowed(self, tmp_path: Path) -> Iterator[_House]:
        """The domains of `examples/domains.toml`."""
        made = _open(tmp_path, read_declarations(EXAMPLES / "domains.toml"))
        yield made
        made.opened.close()

    def test_the_example_offers_every_builtin_method(self, narrowed: _House) -> None:
        """A reader can copy it and delete what is not wanted."""
        for domain in builtin_catalogue():
            declared = narrowed.opened.catalogue.domains[domain.name]
            assert set(declared.methods) == set(domain.methods)

    def test_a_stricter_schema_in_the_file_is_in_force(self, narrowed: _House) -> None:
        """Titles of 81 characters are refused there and allowed by the notebook itself."""
        with pytest.raises(ParametersInvalid, match="title"):
            narrowed.run("notebook", "append_note", {"title": "t" * 81, "text": ""})
        note = {"title": "t" * 80, "text": ""}
        assert narrowed.run("notebook", "append_note", note) == {"note_id": 1}

    def test_the_notebooks_own_schema_stays_in_force_beside_it(self, narrowed: _House) -> None:
        """A file can only narrow: the empty title is still refused."""
        with pytest.raises(ParametersInvalid, match="title"):
            narrowed.run("notebook", "append_note", {"title": "", "text": ""})

    def test_a_shorter_limit_in_the_file_reaches_the_domain(self, narrowed: _House) -> None:
        """The declared maximum of 2.5 seconds takes the place of the notebook's five."""
        declared = narrowed.opened.catalogue.method("notebook", "append_note")
        assert declared is not None
        assert declared.max_duration_s == 2.5


FULL_SCOPE = {domain.name: tuple(domain.methods) for domain in builtin_catalogue()} | {
    "trial": tuple(METHODS)
}


def _example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLES / "plans" / name).read_text())
    return document


def _run_example(stage3: Stage3UnderTest, name: str) -> Answer:
    plan = _example(name)
    token = stage3.issue(
        user_id=plan["user_id"],
        allowed_trigger_types=[plan["trigger_type"]],
        scope=FULL_SCOPE,
    )
    return stage3.run(
        token.token_hash,
        *plan["steps"],
        bindings=plan.get("data_bindings"),
        user_id=plan["user_id"],
        trigger_type=plan["trigger_type"],
    )


def _notes(tmp_path: Path) -> list[tuple[Any, ...]]:
    path = notebook_path(tmp_path / "stage3", "notebook")
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = list(connection.execute("SELECT idempotency_key, title, text FROM note"))
    connection.close()
    return rows


class TestThroughStage3:
    """The same domains behind a running Stage-3: gates before them, the log around them."""

    def test_the_first_plan_writes_its_note_and_leaves_sixteen_events(
        self, stage3: Stage3UnderTest, tmp_path: Path
    ) -> None:
        """What the README shows."""
        answer = _run_example(stage3, "first.json")
        text = "THE FIRST NOTE OF THIS NOTEBOOK"
        assert answer.outputs == [
            {"text": text},
            {"note_id": 1},
            {"notes": [{"note_id": 1, "title": "First run"}]},
        ]
        assert _notes(tmp_path) == [("plan-1/1", "First run", text)]
        assert len(stage3.events(plan_id="plan-1")) == 16

    def test_three_hashes_in_a_row_are_the_hash_of_the_hash(self, stage3: Stage3UnderTest) -> None:
        """Computed here again, outside."""
        expected = "seed"
        outputs = []
        for _ in range(3):
            expected = hashlib.sha256(expected.encode()).hexdigest()
            outputs.append({"sha256": expected})
        assert _run_example(stage3, "hash_three_times.json").outputs == outputs

    def test_a_note_is_read_back_with_its_checksum(self, stage3: Stage3UnderTest) -> None:
        """Five steps, five bindings, one of them an integer and two into an array."""
        text = "measured twice, cut once"
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert _run_example(stage3, "note_with_checksum.json").outputs[-1] == {
            "note_id": 1,
            "title": "With its checksum",
            "text": f"{text}\n{digest}",
        }

    def test_the_smallest_plan_has_six_events(self, stage3: Stage3UnderTest) -> None:
        """One for the token and five for its step."""
        assert _run_example(stage3, "single_step.json").outputs == [{"words": 5}]
        assert len(stage3.events(plan_id="plan-1")) == 6

    def test_a_plan_that_fails_halfway_keeps_its_effect_and_stops(
        self, stage3: Stage3UnderTest, tmp_path: Path
    ) -> None:
        """The note stays, the failed step is named, the third step never starts."""
        answer = _run_example(stage3, "fails_halfway.json")
        assert (answer.kind, answer.reason) == ("failed", "DOMAIN_FAILED")
        assert len(_notes(tmp_path)) == 1
        started = stage3.events(plan_id="plan-1", event_type="EXECUTION_STARTED")
        assert [event["step"] for event in started] == [0, 1]

    def test_a_plan_that_leaves_its_scope_has_no_effect_at_all(
        self, stage3: Stage3UnderTest, tmp_path: Path
    ) -> None:
        """The forbidden second step keeps the first from running."""
        answer = _run_example(stage3, "outside_the_scope.json")
        assert answer.reason == "DOMAIN_NOT_IN_SCOPE"
        assert _notes(tmp_path) == []

    def test_a_backward_binding_is_no_plan(self, stage3: Stage3UnderTest) -> None:
        """Stage-3 finds it by itself, whatever Stage-4 let through."""
        assert _run_example(stage3, "invalid_backward_binding.json").reason == "PLAN_INVALID"

    def test_parameters_that_do_not_fit_leave_no_note(
        self, stage3: Stage3UnderTest, tmp_path: Path
    ) -> None:
        """Gate 4 asks the schema of the notebook; the refused title is in no event."""
        token = stage3.issue(scope=FULL_SCOPE)
        secret = "hunter2" * 40
        answer = stage3.run(
            token.token_hash, step("notebook", "append_note", title=secret, text="")
        )
        assert answer.reason == "PARAMETERS_INVALID"
        assert _notes(tmp_path) == []
        assert "hunter2" not in json.dumps(stage3.events(plan_id="plan-1"))

    @pytest.mark.parametrize("method", RAW_ANSWERS)
    def test_garbage_fails_the_step_with_its_own_reason(
        self, stage3: Stage3UnderTest, method: str
    ) -> None:
        """The step is completed as failed: the domain did answer."""
        answer = stage3.run(stage3.issue(scope=FULL_SCOPE).token_hash, step("trial", method))
        assert (answer.kind, answer.reason) == ("failed", "ANSWER_INVALID")
        last = stage3.events(plan_id="plan-1")[-1]
        assert (last["event_type"], last["status"]) == ("EXECUTION_COMPLETED", "failed")

    @pytest.mark.parametrize(
        ("method", "kind", "reason", "last"),
        [
            ("fail", "failed", "DOMAIN_FAILED", "EXECUTION_COMPLETED"),
            ("raise_error", "failed", "DOMAIN_FAILED", "EXECUTION_COMPLETED"),
            ("exit_process", "failed", "DOMAIN_FAILED", "EXECUTION_COMPLETED"),
            ("no_answer", "failed", "DOMAIN_FAILED", "EXECUTION_COMPLETED"),
            ("mutable_output", "failed", "DOMAIN_FAILED", "EXECUTION_COMPLETED"),
            ("long_message", "failed", "DOMAIN_FAILED", "EXECUTION_COMPLETED"),
            ("unreachable", "failed", "DOMAIN_UNREACHABLE", "EXECUTION_COMPLETED"),
            ("silent", "in_doubt", "STEP_IN_DOUBT", "OPERATION_ABORTED"),
            ("stall", "in_doubt", "STEP_IN_DOUBT", "OPERATION_ABORTED"),
        ],
    )
    def test_every_misbehaviour_has_one_outcome_and_no_text_of_its_own(
        self, stage3: Stage3UnderTest, method: str, kind: str, reason: str, last: str
    ) -> None:
        """The log's last event says what happened; the parameters are nowhere in clear."""
        token = stage3.issue(scope=FULL_SCOPE)
        answer = stage3.run(token.token_hash, step("trial", method, password="hunter2"))
        assert (answer.kind, answer.reason) == (kind, reason)
        events = stage3.events(plan_id="plan-1")
        assert events[-1]["event_type"] == last
        assert "hunter2" not in json.dumps(events)
        assert "hunter2" not in str(answer)

    def test_too_many_hanging_calls_make_the_domain_unreachable_and_no_other(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """The ninth call is refused without an effect; text and notebook go on."""
        token = stage3.issue(scope=FULL_SCOPE)
        with ThreadPoolExecutor(8) as clients:
            hung = list(
                clients.map(
                    lambda _: stage3.run(token.token_hash, step("trial", "stall")).kind, range(8)
                )
            )
        assert hung == ["in_doubt"] * 8
        answer = stage3.run(token.token_hash, step("trial", "effect"))
        assert (answer.kind, answer.reason) == ("failed", "DOMAIN_UNREACHABLE")
        assert trial.domain.effects == []
        other = stage3.run(
            token.token_hash,
            step("text", "upper", text="a"),
            step("notebook", "append_note", title="t", text=""),
        )
        assert other.outputs == [{"text": "A"}, {"note_id": 1}]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage3UnderTest, str]]:
    """A Stage-3 that reaches the trial domain over gRPC, and a credential for all its methods."""
    directory = tmp_path_factory.mktemp("elsewhere")
    with (
        running_remote_domain() as remote,
        running_stage3(
            directory,
            domains_file=write_domains_file(
                directory / "domains.json", remote.address, max_duration_s=20.0
            ),
            domain_client=domain_client(),
            accept=["trial"],
        ) as stage3,
    ):
        scope = {"trial": (*METHODS, *FURTHER_METHODS), "text": ("upper", "concat")}
        yield stage3, stage3.issue(scope=scope).token_hash


class TestADomainElsewhere:
    """The trial domain as a service behind mTLS: how it may behave, and what a plan learns."""

    @pytest.mark.parametrize("name", RAW_ANSWERS)
    def test_garbage_is_an_invalid_answer(
        self, elsewhere: tuple[Stage3UnderTest, str], name: str
    ) -> None:
        """As with a domain in the house: answered, and passed on to nobody."""
        stage3, token = elsewhere
        answer = stage3.run(token, step("trial", name))
        assert (answer.kind, answer.reason) == ("failed", "ANSWER_INVALID")

    @pytest.mark.parametrize(
        ("method", "kind", "reason"),
        [
            ("huge", "failed", "ANSWER_INVALID"),
            ("huge_compressed", "failed", "ANSWER_INVALID"),
            ("malformed", "failed", "ANSWER_INVALID"),
            ("empty_answer", "failed", "ANSWER_INVALID"),
            ("fail", "failed", "DOMAIN_FAILED"),
            ("raise_error", "failed", "DOMAIN_FAILED"),
            ("long_failure", "failed", "DOMAIN_FAILED"),
            ("status_internal", "failed", "DOMAIN_FAILED"),
            ("status_permission_denied", "failed", "DOMAIN_FAILED"),
            ("status_unavailable", "in_doubt", "STEP_IN_DOUBT"),
            ("forged_unsent", "in_doubt", "STEP_IN_DOUBT"),
            ("stall", "in_doubt", "STEP_IN_DOUBT"),
        ],
    )
    def test_what_it_does_is_what_the_plan_says(
        self, elsewhere: tuple[Stage3UnderTest, str], method: str, kind: str, reason: str
    ) -> None:
        """Failed where it answered, in doubt where nobody knows; no exception text, no retry."""
        stage3, token = elsewhere
        answer = stage3.run(token, step("trial", "echo"), step("trial", method, secret="hunter2"))
        assert (answer.kind, answer.reason, answer.ended.step) == (kind, reason, 1)
        assert "hunter2" not in answer.ended.message
        assert answer.response is not None
        events = stage3.events(plan_id=answer.response.plan_id)
        terminal = [event for event in events if event["additional_data"].get("terminal")]
        assert [event["event_type"] for event in terminal] == [
            "EXECUTION_COMPLETED" if kind == "failed" else "OPERATION_ABORTED"
        ]

    def test_a_plan_over_both_kinds_of_domain_completes(
        self, elsewhere: tuple[Stage3UnderTest, str]
    ) -> None:
        """A result of the house is bound into a call elsewhere, and back."""
        stage3, token = elsewhere
        answer = stage3.run(
            token,
            step("text", "upper", text="bound"),
            step("trial", "echo", title="kept"),
            step("text", "upper"),
            bindings=[
                {
                    "source_step": 0,
                    "source_path": "text",
                    "target_step": 1,
                    "target_path": "text",
                },
                {
                    "source_step": 1,
                    "source_path": "text",
                    "target_step": 2,
                    "target_path": "text",
                },
            ],
        )
        assert answer.outputs == [
            {"text": "BOUND"},
            {"text": "BOUND", "title": "kept"},
            {"text": "BOUND"},
        ]
        assert answer.response is not None
        assert len(stage3.events(plan_id=answer.response.plan_id)) == 16

    def test_parameters_that_do_not_fit_the_declared_schema_are_not_sent(
        self, tmp_path: Path
    ) -> None:
        """Gate 4 asks the operator's file; the domain hears of nothing."""
        with running_remote_domain() as remote:
            methods = remote_methods(5.0)
            methods["echo"]["parameters_schema"] = {"required": ["a"]}
            declared = write_domains_file(
                tmp_path / "domains.json", remote.address, methods=methods
            )
            with running_stage3(
                tmp_path, domains_file=declared, domain_client=domain_client(), accept=["trial"]
            ) as stage3:
                token = stage3.issue(scope={"trial": ("echo",)}).token_hash
                refused = stage3.run(token, step("trial", "echo", b=1))
                assert refused.reason == "PARAMETERS_INVALID"
                assert remote.received == []
                assert stage3.run(token, step("trial", "echo", a=1)).outputs == [{"a": 1}]

    def test_an_undeclared_method_of_the_service_does_not_exist(self, tmp_path: Path) -> None:
        """The file decides what is offered, not the service."""
        with running_remote_domain() as remote:
            methods = {"echo": remote_methods(5.0)["echo"]}
            declared = write_domains_file(
                tmp_path / "domains.json", remote.address, methods=methods
            )
            with running_stage3(
                tmp_path, domains_file=declared, domain_client=domain_client(), accept=["trial"]
            ) as stage3:
                token = stage3.issue(scope={"trial": ("echo", "effect")}).token_hash
                refused = stage3.run(token, step("trial", "echo"), step("trial", "effect"))
                assert refused.reason == "METHOD_UNDECLARED"
                assert remote.received == []


GIT, FILES, CLOCK, MEMORY, EVERYTHING = "git", "files", "clock", "memory", "everything"
SERVERS = (GIT, FILES, CLOCK, MEMORY, EVERYTHING)


@dataclasses.dataclass
class _Servers:
    """A Stage-3 that governs five MCP servers which nobody here wrote, and what they work on."""

    stage3: Stage3UnderTest
    folder: Path
    repository: Path

    def run(self, *steps: Any, **plan: Any) -> Answer:
        """Execute a plan with a token for everything."""
        scope = {name: tuple(methods) for name, methods in _TOOLS.items()}
        token = self.stage3.issue(scope={**scope, "text": ("upper", "sha256")}).token_hash
        return self.stage3.run(token, *steps, timeout_s=PATIENCE_S, **plan)


_TOOLS = {
    GIT: {"log": "git_log", "status": "git_status"},
    FILES: {"write_file": "write_file", "read_file": "read_text_file"},
    CLOCK: {"now": "get_current_time", "convert": "convert_time"},
    MEMORY: {"create": "create_entities", "read": "read_graph"},
    EVERYTHING: {"echo": "echo", "sum": "get-sum", "image": "get-tiny-image"},
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Servers]:
    """Run all five, and accept what they show."""
    directory = tmp_path_factory.mktemp("servers")
    folder, repository = directory / "shared", directory / "repository"
    folder.mkdir()
    git = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.test")
    subprocess.run([*git, "init", "-q", str(repository)], check=True)
    message = ("commit", "-q", "--allow-empty", "-m", "the first words")
    subprocess.run([*git, "-C", str(repository), *message], check=True)
    keys = {
        GIT: python_keys("mcp_server_git", "--repository", str(repository)),
        FILES: node_keys("filesystem", str(folder)),
        CLOCK: python_keys("mcp_server_time"),
        MEMORY: node_keys("memory", environment={"MEMORY_FILE_PATH": str(directory / "memory")}),
        EVERYTHING: node_keys("everything", "stdio"),
    }
    keys[GIT]["environment"] = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    domains = {name: mcp_table(_TOOLS[name], **keys[name]) for name in SERVERS}
    text = {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}, "sha256": {}}}
    file = directory / "domains.json"
    file.write_text(json.dumps({"domains": {**domains, "text": text}}))
    with running_stage3(directory, domains_file=file) as stage3:
        for name in SERVERS:
            stage3.accept(name, timeout_s=PATIENCE_S)
        yield _Servers(stage3, folder, repository)


def _binding(source: int, source_path: str, target: int, target_path: str) -> dict[str, Any]:
    return {
        "source_step": source,
        "source_path": source_path,
        "target_step": target,
        "target_path": target_path,
    }


class TestRealMcpServers:
    """Servers that nobody here wrote, through every gate."""

    def test_a_plan_over_several_servers_binds_one_to_the_next(self, servers: _Servers) -> None:
        """The log of a repository, in capitals, written to a file, read back and hashed."""
        path = str(servers.folder / "log.txt")
        answer = servers.run(
            step(GIT, "log", repo_path=str(servers.repository), max_count=1),
            step("text", "upper", text=""),
            step(FILES, "write_file", path=path, content=""),
            step(FILES, "read_file", path=path),
            step("text", "sha256", text=""),
            bindings=[
                _binding(0, "content.0.text", 1, "text"),
                _binding(1, "text", 2, "content"),
                _binding(3, "structured_content.content", 4, "text"),
            ],
        )

        written = Path(path).read_text()
        assert "THE FIRST WORDS" in written
        assert answer.outputs[4] == {"sha256": hashlib.sha256(written.encode()).hexdigest()}
        plan_id = answer.response.plan_id if answer.response else ""
        assert len(servers.stage3.events(plan_id=plan_id)) == 1 + 5 * 5

    @pytest.mark.parametrize(
        ("domain", "method", "parameters", "expected"),
        [
            (EVERYTHING, "echo", {"message": "snow ☃"}, "Echo: snow ☃"),
            (EVERYTHING, "sum", {"a": 1, "b": 2}, "The sum of 1 and 2 is 3."),
        ],
    )
    def test_a_tool_answers_with_its_contents(
        self, servers: _Servers, domain: str, method: str, parameters: Any, expected: str
    ) -> None:
        """Without structured content, the list as the server wrote it."""
        answer = servers.run(step(domain, method, **parameters))

        assert answer.outputs == [{"content": [{"type": "text", "text": expected}]}]

    def test_a_tool_answers_with_structured_content(self, servers: _Servers) -> None:
        """Where the server gives any, that is the output."""
        answer = servers.run(
            step(
                CLOCK,
                "convert",
                source_timezone="Etc/UTC",
                time="12:00",
                target_timezone="Asia/Tokyo",
            ),
        )

        (output,) = answer.outputs
        assert output["structured_content"]["time_difference"] == "+9.0h"

    def test_an_image_is_passed_on_as_it_came(self, servers: _Servers) -> None:
        """A binary content is base64 in a content of its own kind."""
        (output,) = servers.run(step(EVERYTHING, "image")).outputs

        assert [item["type"] for item in output["content"]] == ["text", "image", "text"]

    def test_an_effect_is_seen_by_the_next_step(self, servers: _Servers) -> None:
        """The server keeps its own state; Stage-3 keeps its session."""
        entity = {"name": "ada", "entityType": "person", "observations": ["wrote a program"]}
        answer = servers.run(step(MEMORY, "create", entities=[entity]), step(MEMORY, "read"))

        assert answer.outputs[1]["structured_content"]["entities"] == [entity]

    @pytest.mark.parametrize(
        ("domain", "method", "parameters"),
        [
            (FILES, "read_file", {"path": "/etc/passwd"}),
            (CLOCK, "now", {"timezone": "Nowhere/Here"}),
            (GIT, "status", {"repo_path": "/"}),
        ],
    )
    def test_a_tool_that_refuses_has_failed(
        self, servers: _Servers, domain: str, method: str, parameters: Any
    ) -> None:
        """`isError`, whatever its text: the step failed, and the text is in no answer."""
        answer = servers.run(step(domain, method, **parameters))

        assert (answer.kind, answer.reason) == ("failed", "DOMAIN_FAILED")

    @pytest.mark.parametrize(
        ("domain", "method", "parameters"),
        [
            (FILES, "write_file", {"path": "a"}),
            (FILES, "write_file", {"path": 1, "content": "a"}),
            (CLOCK, "now", {}),
            (GIT, "log", {"repo_path": "/", "max_count": "many"}),
            (MEMORY, "create", {"entities": [{"name": "ada"}]}),
            (EVERYTHING, "sum", {"a": 1}),
        ],
    )
    def test_parameters_that_do_not_fit_the_servers_schema_are_not_sent(
        self, servers: _Servers, domain: str, method: str, parameters: Any
    ) -> None:
        """Each server's own schema, in the draft that it names, before anything is started."""
        answer = servers.run(step(domain, method, **parameters))

        assert answer.reason == "PARAMETERS_INVALID"

    def test_a_tool_that_is_not_declared_does_not_exist(self, servers: _Servers) -> None:
        """The server has it, the file does not name it: gate 2 knows nothing else."""
        token = servers.stage3.issue(scope={FILES: ("write_file",)}).token_hash
        answer = servers.stage3.run(token, step(FILES, "move_file", source="a", destination="b"))

        assert answer.reason == "METHOD_NOT_IN_SCOPE"
