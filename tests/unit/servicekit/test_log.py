"""What a log line never holds, however it got there."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from servicekit.log import (
    REDACTED,
    configure_logging,
    is_secret_key,
    logger,
    redact,
    redact_text,
)

CREDENTIAL = "token_" + "Aa0_-" * 8 + "xyz"
PRIVATE_KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqG\n-----END PRIVATE KEY-----"


@dataclass
class Holder:
    """An object whose representation shows what it holds."""

    value: str


class Unprintable:
    """An object that cannot be printed."""

    def __repr__(self) -> str:
        raise ValueError(CREDENTIAL)


@pytest.fixture(autouse=True)
def logging_put_back() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configured = structlog.get_config()
    yield
    structlog.configure(**configured)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    """Return where the log goes."""
    out = io.StringIO()
    configure_logging("stage3", "debug", out)
    return out


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return what was logged."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestByValue:
    """A credential is known by its shape, wherever it stands."""

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(CREDENTIAL, id="text"),
            pytest.param(CREDENTIAL.encode(), id="bytes"),
            pytest.param(bytearray(CREDENTIAL.encode()), id="bytearray"),
            pytest.param(b"\xff\x00" + CREDENTIAL.encode(), id="bytes that are no text"),
            pytest.param({"a": [{"b": (CREDENTIAL,)}]}, id="nested"),
            pytest.param({CREDENTIAL: 1}, id="a key"),
            pytest.param({CREDENTIAL}, id="a set"),
            pytest.param(ValueError(CREDENTIAL), id="an exception"),
            pytest.param(ValueError(b"x" + CREDENTIAL.encode()), id="bytes in an exception"),
            pytest.param(Holder(CREDENTIAL), id="an object"),
            pytest.param(Unprintable(), id="an object that cannot be printed"),
            pytest.param(f"a{CREDENTIAL}b {CREDENTIAL}", id="amid text, twice"),
            pytest.param(CREDENTIAL[:-5], id="cut short"),
        ],
    )
    def test_a_credential_is_never_written(self, stream: io.StringIO, value: object) -> None:
        """The line is there, the credential is not."""
        logger("door").info("event", value=value)
        assert len(lines(stream)) == 1
        assert CREDENTIAL[:30] not in stream.getvalue()

    @pytest.mark.parametrize(
        "value", [PRIVATE_KEY, PRIVATE_KEY[:60], f"key: {PRIVATE_KEY}", {"a": PRIVATE_KEY.encode()}]
    )
    def test_a_private_key_is_never_written(self, stream: io.StringIO, value: object) -> None:
        """Whole or cut off, in text or in bytes."""
        logger("door").info("event", value=value)
        assert "MIGH" not in stream.getvalue()

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic", "BASIC"])
    def test_an_authorization_value_is_never_written(
        self, stream: io.StringIO, scheme: str
    ) -> None:
        """The scheme stays, what follows it does not."""
        for space in (" ", "\t", "   "):
            logger("door").info("event", header=f"{scheme}{space}abcdefghijkl")
        assert {line["header"] for line in lines(stream)} == {f"{scheme} {REDACTED}"}

    @given(
        before=st.text(max_size=20),
        body=st.text("abcABC019_-", min_size=43, max_size=43),
        after=st.text(max_size=20),
    )
    def test_no_text_around_a_credential_protects_it(
        self, before: str, body: str, after: str
    ) -> None:
        """Whatever stands before and after, the credential is gone and redaction is stable."""
        redacted = redact_text(f"{before}token_{body}{after}")
        assert body not in redacted
        assert redact_text(redacted) == redacted

    def test_a_password_in_a_url_is_never_written(self) -> None:
        """Where a database is may be read, how to enter it may not."""
        assert redact_text("cannot reach postgres://stage3:hunter2@db:5432/log, giving up") == (
            f"cannot reach postgres://stage3:{REDACTED}@db:5432/log, giving up"
        )
        for text in ("spiffe://a.test/client/b", "https://a.test:80/@x", "a@b.test ://"):
            assert redact_text(text) == text

    def test_ordinary_words_stay(self) -> None:
        """A token's public reference, an event's name and a basic fact are not secrets."""
        for text in (
            "tok_0123456789abcdef",
            "token_validation_sequence",
            "basic checks",
            "TOKEN_ISSUED",
        ):
            assert redact_text(text) == text


class TestByKey:
    """A name can say enough."""

    @pytest.mark.parametrize(
        "key",
        [
            "token_hash", "TOKEN_HASH", "token", "Authorization", "api-key", "X-Api-Key",
            "db_password", "client_secret", "private_key", "Cookie", "credential",
            "tokenHash", "apikey", "secretKey", "passwd", "PWD",
        ],
    )  # fmt: skip
    def test_a_secret_name_hides_any_value(self, stream: io.StringIO, key: str) -> None:
        """At any depth, in any spelling, whatever the value is."""
        logger("door").info("event", detail={"deep": [{key: "hunter2"}]}, **{key: ["hunter2"]})
        assert "hunter2" not in stream.getvalue()
        assert lines(stream)[0][key] == REDACTED

    @pytest.mark.parametrize(
        "key", ["token_id", "tokenId", "tokens", "keyboard", "secretary", "method"]
    )
    def test_other_names_hide_nothing(self, key: str) -> None:
        """A public reference must stay readable, or the log is of no use."""
        assert not is_secret_key(key)


class TestLine:
    """The form of a line."""

    def test_a_line_is_json_with_service_level_event_part_and_time(
        self, stream: io.StringIO
    ) -> None:
        """Exactly these, and what was given."""
        logger("door").warning("refused", method="/a/b", count=3, ratio=0.5, ok=True, none=None)
        (line,) = lines(stream)
        assert line.pop("timestamp").endswith("Z")
        assert line == {
            "service": "stage3", "level": "warning", "event": "refused", "part": "door",
            "method": "/a/b", "count": 3, "ratio": 0.5, "ok": True, "none": None,
        }  # fmt: skip

    def test_the_standard_library_s_records_take_the_same_way(self, stream: io.StringIO) -> None:
        """Libraries log there: same form, same redaction, traceback included."""
        try:
            raise ValueError(CREDENTIAL)
        except ValueError:
            logging.getLogger("grpc._server").exception("Exception calling %s", CREDENTIAL)
        (line,) = lines(stream)
        assert (line["service"], line["level"]) == ("stage3", "error")
        assert line["event"] == f"Exception calling {REDACTED}"
        assert f"ValueError: {REDACTED}" in line["exception"]

    def test_a_line_stays_one_line(self, stream: io.StringIO) -> None:
        """A value cannot forge a second line."""
        logger("door").info("event", value='a\n{"event": "forged"}\r\u2028')
        assert [line["event"] for line in lines(stream)] == ["event"]

    def test_lines_below_the_level_are_not_written(self) -> None:
        """The level holds for both ways in."""
        out = io.StringIO()
        configure_logging("stage3", "WARNING", out)
        logger("door").info("quiet")
        logging.getLogger("any").info("quiet")
        assert out.getvalue() == ""

    def test_an_unknown_level_is_refused(self) -> None:
        """A misspelled level would silence or flood the log."""
        with pytest.raises(ValueError, match="not a log level"):
            configure_logging("stage3", "loud", io.StringIO())

    def test_depth_is_bounded(self) -> None:
        """A value that contains itself ends."""
        value: dict[str, object] = {}
        value["self"] = value
        assert "too deep" in json.dumps(redact(value))
