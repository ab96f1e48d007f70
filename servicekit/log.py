"""JSON lines on one stream, from which every secret has been taken before they are written.

Redaction happens three times, each for what the one before cannot see: by the name of a key, by
the shape of a value at any depth, and once more over the finished line, for objects that only
became text while it was rendered.

Deliberately absent: log files, rotation and shipping, which belong to whatever starts the process.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

REDACTED: Final = "[redacted]"

SECRET_KEYS: Final = frozenset(
    {
        "api_key",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "passphrase",
        "passwd",
        "password",
        "pwd",
        "private_key",
        "proxy_authorization",
        "secret",
        "secret_key",
        "set_cookie",
        "token",
        "token_hash",
        "token_key",
    }
)
"""Names whose values are never written, in any case, with `-`, `_` or neither (`tokenHash`), also
as the last words of a longer name (`db_password`). `token_id` is a public reference and written."""

_SECRET_ENDINGS: Final = tuple("_" + key for key in sorted(SECRET_KEYS))
_SECRET_WORDS_JOINED: Final = frozenset(key.replace("_", "") for key in SECRET_KEYS)
# `tokenHash` is `token_hash` in JSON that protobuf wrote.
_NEXT_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

DEPTH_MAX: Final = 16

# A capability credential is `token_` and 43 characters of base64url; a truncated one is as bad.
_CREDENTIAL: Final = re.compile(r"token_[A-Za-z0-9_-]{32,}")
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)[ \t]+[A-Za-z0-9._~+/=-]{8,}")
# The password of `postgres://user:password@host`.
_URL_PASSWORD: Final = re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)")


def redact_text(text: str) -> str:
    """Return the text with every credential, private key and bearer value in it replaced."""
    if "token_" in text:
        text = _CREDENTIAL.sub(REDACTED, text)
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(REDACTED, text)
    lowered = text.lower()
    if "bearer" in lowered or "basic" in lowered:
        text = _BEARER.sub(rf"\1 {REDACTED}", text)
    if "://" in text and "@" in text:
        text = _URL_PASSWORD.sub(rf"\1{REDACTED}", text)
    return text


# Names repeat from line to line; the bound keeps names that come from data from piling up.
@lru_cache(maxsize=1024)
def is_secret_key(key: str) -> bool:
    """Say whether a value under this name is never to be written."""
    name = _NEXT_WORD.sub("_", key).lower().replace("-", "_")
    return name in SECRET_KEYS or name in _SECRET_WORDS_JOINED or name.endswith(_SECRET_ENDINGS)


def redact(value: object, depth: int = 0) -> object:
    """Return a copy of a value without secrets, made of what JSON can hold."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return redact_text(str(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return redact_text(bytes(value).decode("utf-8", "backslashreplace"))
    if depth >= DEPTH_MAX:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {
            redact_text(str(key)): REDACTED if is_secret_key(str(key)) else redact(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(item, depth + 1) for item in value]
    return redact_text(_text_of(value))


def _text_of(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a log line must not fail because an object cannot print itself
        return f"[unprintable {type(value).__name__}]"


def redact_event(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    """Redact one structlog event: the last processor before the renderer."""
    if _is_harmless(event):
        return event
    redacted = redact(event)
    if not isinstance(redacted, dict):  # pragma: no cover - an event is a mapping
        raise TypeError("an event that is not a mapping")
    return redacted


def _is_harmless(event: Mapping[str, Any]) -> bool:
    """Say whether nothing in a flat event needs redaction, in one look at all its texts.

    No pattern spans a line end that it does not also find within one text, so that a look at the
    joined texts misses nothing. Most lines are access lines, and pass here.
    """
    texts = []
    for key, value in event.items():
        if type(key) is not str or is_secret_key(key):
            return False
        texts.append(key)
        if type(value) is str:
            texts.append(value)
        elif value is not None and type(value) not in _NUMBERS:
            return False
    joined = "\n".join(texts)
    return redact_text(joined) == joined


_NUMBERS: Final = frozenset({bool, int, float})

# ASCII: U+2028 is a line end to many a reader, and a lone surrogate cannot be written. What arrives
# here is made of what JSON can hold.
_encode_line: Final = json.JSONEncoder(ensure_ascii=True, check_circular=False).encode


def _render_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Write JSON, then take the last look over the finished line."""
    text = _encode_line(event)
    return _CREDENTIAL.sub(REDACTED, text) if "token_" in text else text


def configure_logging(service: str, level: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process, the standard library's included, to `stream` as JSON.

    Lines carry `service`, `level`, `event` and `timestamp` (RFC 3339, UTC). `level` is a standard
    level name; `stream` is standard error by default.

    Raises:
        ValueError: the level is not a standard name.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r} is not a log level such as info or warning")

    def name_service(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        name_service,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [
        structlog.processors.format_exc_info,
        redact_event,
        _render_line,
    ]
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )


def logger(name: str) -> FilteringBoundLogger:
    """Return a logger that names its part of the service in every line."""
    bound: FilteringBoundLogger = structlog.get_logger(part=name)
    return bound
