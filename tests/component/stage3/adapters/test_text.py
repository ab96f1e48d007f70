"""The text domain: every method against a plain statement of what it computes."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonValue
from stage3_service.adapters.builtin.text import TEXT
from stage3_service.adapters.direct_call import DirectCall
from stage3_service.domains.answer import read_answer
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.port import Invocation, MethodFailed, Output

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
_SEPARATOR = st.text("ab,☃", min_size=1, max_size=2)
_DOMAIN = DirectCall(
    DomainDeclaration("text", "builtin", "text", TEXT.declarations),
    TEXT,
    on_raised=lambda raised: None,
)


def _call(method: str, **parameters: JsonValue) -> JsonValue:
    raw = json.dumps(parameters).encode()
    answer = _DOMAIN.invoke(Invocation(method, raw, 5.0, "p/0"))
    assert isinstance(answer, Output)
    value = read_answer(answer.json_bytes, TEXT.declarations[method].max_response_bytes)
    assert canonicalize(value) == answer.json_bytes
    return value


@given(_TEXT)
def test_methods_of_one_text_agree_with_their_statement(text: str) -> None:
    """Case mapping, trimming, counting and hashing are those of Unicode and of FIPS 180-4."""
    assert _call("upper", text=text) == {"text": text.upper()}
    assert _call("lower", text=text) == {"text": text.lower()}
    assert _call("trim", text=text) == {"text": text.strip()}
    assert _call("word_count", text=text) == {"words": len(text.split())}
    assert _call("sha256", text=text) == {"sha256": hashlib.sha256(text.encode()).hexdigest()}


@given(st.lists(_TEXT, max_size=5), _TEXT)
def test_concat_puts_the_separator_between_the_parts(parts: list[str], separator: str) -> None:
    """And nowhere else."""
    joined = _call("concat", parts=[*parts], separator=separator)
    assert joined == {"text": separator.join(parts)}


@given(st.text("ab,☃x", max_size=30), _SEPARATOR)
def test_split_and_concat_are_inverse(text: str, separator: str) -> None:
    """Splitting and joining at the same separator gives the text back."""
    parts = _call("split", text=text, separator=separator)
    assert isinstance(parts, dict)
    assert _call("concat", parts=parts["parts"], separator=separator) == {"text": text}


@given(
    st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=3), st.text("ab☃", max_size=3)
)
def test_replace_is_a_split_and_a_join(text: str, old: str, new: str) -> None:
    """Every occurrence from the left, none twice."""
    assert _call("replace", text=text, old=old, new=new) == {"text": new.join(text.split(old))}


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer(raw: bytes) -> None:
    """No parameters whatsoever make a method raise."""
    raised: list[object] = []
    declaration = DomainDeclaration("text", "builtin", "text", TEXT.declarations)
    domain = DirectCall(declaration, TEXT, on_raised=raised.append)
    for method in TEXT.declarations:
        assert isinstance(domain.invoke(Invocation(method, raw, 5.0, "p/0")), MethodFailed)
    assert raised == []


def test_a_method_text_does_not_have_fails() -> None:
    """The domain has its own closed list, behind everybody else's."""
    answer = TEXT.invoke(Invocation("eval", b"{}", 5.0, "p/0"))
    assert answer == MethodFailed("text has no such method")
    TEXT.close()
