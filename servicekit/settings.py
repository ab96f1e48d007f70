"""Settings from one TOML file and the environment, typed, complete, and refused when misspelled.

The environment wins over the file. `STAGE3_LISTEN__PLANS` sets `plans` in the section `listen`; its
text is read as the type the setting has, and as a TOML value where that is a list or a table.

Deliberately absent: defaults beside the model's own, search paths, variables that are silently
ignored, and values in error texts, which could be secrets.
"""

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)

SETTINGS_MAX_BYTES: Final = 1_048_576
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")

Location = tuple[str, ...]


class SettingsRefused(Exception):
    """Settings that cannot be used; `problems` names all of them, each with where it stands."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load_settings(
    model: type[M], *, file: Path | None, environ: Mapping[str, str], env_prefix: str
) -> M:
    """Read, merge and validate all settings.

    Every variable that begins with `env_prefix` must be a setting: a misspelled one would
    otherwise leave a default in force that nobody chose.

    Raises:
        SettingsRefused: with every problem found, in the file, the environment and the values.
        TypeError: the model would accept unknown names or be changeable, which is a defect.
    """
    _verify_model(model)
    problems: list[str] = []
    document = {} if file is None else _read_file(file, problems)
    sources: dict[Location, str] = {}
    for name in sorted(environ):
        if name.startswith(env_prefix):
            _place(model, document, name, env_prefix, environ[name], sources, problems)
    try:
        # Through JSON, where strict still takes text for a path, an enum or a time.
        settings = model.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        problems += [
            _describe_problem(model, detail, sources, file)
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsRefused(problems) from None
    if problems:
        raise SettingsRefused(problems)
    return settings


def describe_settings(settings: BaseModel) -> str:
    """Return the settings in force as TOML; secrets are masked, unset ones are comments."""
    return "\n".join(_toml_table(settings.model_dump(mode="json"), ())).strip("\n") + "\n"


def _verify_model(model: type[BaseModel]) -> None:
    config = model.model_config
    if config.get("extra") != "forbid" or config.get("frozen") is not True:
        raise TypeError(f"{model.__name__} must be frozen and forbid unknown names")
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            _verify_model(inner)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _read_file(file: Path, problems: list[str]) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(SETTINGS_MAX_BYTES + 1)
        if len(content) > SETTINGS_MAX_BYTES:
            problems.append(f"{file}: longer than {SETTINGS_MAX_BYTES} bytes")
            return {}
        return tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        problems.append(f"{file}: there is no such file")
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        problems.append(f"{file}: is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{file}: is not TOML: {error}")
    except RecursionError:
        problems.append(f"{file}: is nested too deeply")
    return {}


def _place(
    model: type[BaseModel],
    document: dict[str, Any],
    name: str,
    env_prefix: str,
    text: str,
    sources: dict[Location, str],
    problems: list[str],
) -> None:
    """Put one variable where its name says, or add the problem."""
    location = tuple(part.lower() for part in name.removeprefix(env_prefix).split("__"))
    annotation: object = model
    table = document
    for depth, part in enumerate(location, start=1):
        known = _names_below(annotation)
        if known is None:
            problems.append(f"{name}: {'.'.join(location[: depth - 1])} has no settings below it")
            return
        if isinstance(known, _AnyName):
            annotation = known.annotation
        elif part in known:
            annotation = _model_of(annotation).model_fields[part].annotation
        else:
            guess = _suggest(name.removeprefix(env_prefix), tuple(_variables(model)), env_prefix)
            problems.append(f"{name}: no such setting{guess}")
            return
        if depth < len(location) and _names_below(annotation) is not None:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                problems.append(f"{name}: {'.'.join(location[:depth])} is not a section")
                return
            table = inner
    try:
        table[location[-1]] = _read_text(annotation, text)
    except ValueError as error:
        problems.append(f"{name}: {error}")
    else:
        sources[location] = name


@dataclass(frozen=True, slots=True)
class _AnyName:
    """The names below a free table: every name, all of one type."""

    annotation: object


def _names_below(annotation: object) -> tuple[str, ...] | _AnyName | None:
    """Return the names a section knows, any name for a table, or None for a plain setting."""
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return tuple(option.model_fields)
        origin = get_origin(option)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return _AnyName(get_args(option)[1])
    return None


def _model_of(annotation: object) -> type[BaseModel]:
    return next(_models_in(annotation))


def _options(annotation: object) -> tuple[object, ...]:
    """Return the alternatives of a union, or the type itself, without None and annotations."""
    origin = get_origin(annotation)
    if origin is Union or origin is UnionType:
        found = tuple(option for each in get_args(annotation) for option in _options(each))
        return tuple(option for option in found if option is not NoneType)
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _options(get_args(annotation)[0])
    return (annotation,)


def _variables(model: type[BaseModel]) -> Iterator[str]:
    """Yield the environment name, without prefix, of every setting."""
    for name, field in model.model_fields.items():
        known = _names_below(field.annotation)
        if isinstance(known, tuple):
            for below in _variables(_model_of(field.annotation)):
                yield f"{name.upper()}__{below}"
        else:
            yield name.upper()


def _read_text(annotation: object, text: str) -> object:
    """Read a variable's text as the type of its setting; never quote it in an error."""
    options = _options(annotation)
    if any(option is bool for option in options):
        if text in {"true", "false"}:
            return text == "true"
        raise ValueError("true or false is expected")
    if any(option is int for option in options) and _INTEGER.fullmatch(text):
        return int(text)
    if any(option is float for option in options):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError("a number is expected")
        return number
    if any(_is_structure(option) for option in options):
        try:
            document = tomllib.loads(f"value = {text}\n")
        except (tomllib.TOMLDecodeError, RecursionError):
            document = {}
        # More than one name: the text has lines of its own, which nobody would read.
        if document.keys() != {"value"}:
            raise ValueError('a TOML value such as ["a", "b"] is expected')
        return document["value"]
    return text


def _is_structure(option: object) -> bool:
    kind = get_origin(option) or option
    if not isinstance(kind, type) or issubclass(kind, str):
        return False
    return issubclass(kind, (Mapping, Sequence, set, frozenset, BaseModel)) and not issubclass(
        kind, (bytes, SecretStr, SecretBytes)
    )


def _suggest(name: str, choices: Sequence[str], prefix: str = "") -> str:
    nearest = get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"; did you mean {prefix}{nearest[0]}?" if nearest else ""


def _describe_problem(
    model: type[BaseModel],
    detail: ErrorDetails,
    sources: Mapping[Location, str],
    file: Path | None,
) -> str:
    location = tuple(str(part) for part in detail["loc"])
    name = ".".join(location)
    variable = next(
        (sources[location[:n]] for n in range(len(location), 0, -1) if location[:n] in sources),
        None,
    )
    where = variable or ("settings" if file is None else str(file))
    if detail["type"] == "extra_forbidden":
        known = _names_at(model, location[:-1])
        return f"{where}: {name}: no such setting{_suggest(location[-1], known)}"
    if detail["type"] == "missing":
        return f"{where}: {name} is required"
    message = detail["msg"]
    return f"{where}: {name}: {message[:1].lower()}{message[1:]}" if name else f"{where}: {message}"


def _names_at(model: type[BaseModel], location: Location) -> Sequence[str]:
    annotation: object = model
    for part in location:
        known = _names_below(annotation)
        if isinstance(known, tuple) and part in known:
            annotation = _model_of(annotation).model_fields[part].annotation
        elif isinstance(known, _AnyName):
            annotation = known.annotation
        else:
            return ()
    known = _names_below(annotation)
    return known if isinstance(known, tuple) else ()


def _toml_table(table: Mapping[str, Any], path: Location) -> Iterator[str]:
    """Yield a table's plain values, then its sections: TOML wants them in this order."""
    for key, value in table.items():
        if value is None:
            yield f"# {_toml_key(key)} is not set"
        elif not isinstance(value, dict):
            yield f"{_toml_key(key)} = {toml_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            section = (*path, key)
            yield ""
            yield f"[{'.'.join(_toml_key(part) for part in section)}]"
            yield from _toml_table(value, section)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_text(key)


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_value(value: object) -> str:
    """Return a value as TOML writes it on one line; what TOML has no word for becomes text."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return f"[{', '.join(toml_value(item) for item in value)}]"
        case dict():
            pairs = (f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        case _:
            return _toml_text(str(value))
