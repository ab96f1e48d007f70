"""What hypothesis draws: JSON values, JSON text in every spelling, and text broken a little."""

import json

from hypothesis import strategies as st

WHITE_SPACE = st.text(alphabet=" \t\n\r", max_size=2)
CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from(
        '"\\/\b\f\n\r\t\x00\x1f\x7f[]{},:éé\u2028\ud7ff\ue000\uffff\U0001f600\U0010ffff'
    ),
)
TEXTS = st.text(alphabet=CHARACTERS.filter(lambda character: character != "\x00"), max_size=12)
INTEGERS = st.integers(-(2**53 - 1), 2**53 - 1)
# Accepted as they are: no minus zero, and no integer that a double holds but another may not.
FLOATS = st.floats(min_value=-(2**53 - 1), max_value=2**53 - 1).map(lambda number: number or 0.0)
SCALARS = st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda children: st.one_of(
        st.lists(children, max_size=5), st.dictionaries(TEXTS, children, max_size=5)
    ),
    max_leaves=25,
)


@st.composite
def string_texts(draw: st.DrawFn) -> str:
    """Spell a string, each character raw or by any of its escapes, or a suspect escape."""
    simple = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r"}
    spelled = []
    for character in draw(st.lists(CHARACTERS, max_size=8)):
        units = character.encode("utf-16-be")
        escaped = "".join(
            f"\\u{int.from_bytes(units[i : i + 2]):04x}" for i in range(0, len(units), 2)
        )
        raw = simple.get(character, character)
        spelled.append(draw(st.sampled_from([raw, raw, raw, escaped, escaped.upper()])))
    if draw(st.integers(0, 9)) == 0:
        suspects = ["\\u0000", "\\ud800", "\\udc00", "\\uD83D\\uDE00", "\\\\u0000", "\\/", "\\u12"]
        spelled.insert(draw(st.integers(0, len(spelled))), draw(st.sampled_from(suspects)))
    return '"' + "".join(spelled).replace("\\U", "\\u") + '"'


NUMBER_TEXTS = st.one_of(
    INTEGERS.map(str),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.builds("{}{}e-{}".format, st.integers(1, 99), st.just("0" * 30), st.integers(25, 35)),
    st.sampled_from(
        ["-0", "-0.0", "0.10", "1e2", "1E400", "5e-324", "NaN", "-Infinity", "01", "1."]
    ),
)


def _joined(opening: str, parts: list[str], closing: str) -> str:
    return opening + ",".join(parts) + closing


@st.composite
def _members(draw: st.DrawFn, children: st.SearchStrategy[str]) -> str:
    parts = [
        draw(WHITE_SPACE) + draw(string_texts()) + draw(WHITE_SPACE) + ":" + child
        for child in draw(st.lists(children, max_size=4))
    ]
    return _joined("{", parts, "}")


@st.composite
def _spaced(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    return draw(WHITE_SPACE) + draw(texts) + draw(WHITE_SPACE)


DOCUMENT_TEXTS = st.recursive(
    _spaced(st.one_of(st.sampled_from(["null", "true", "false"]), NUMBER_TEXTS, string_texts())),
    lambda children: _spaced(
        st.one_of(
            st.lists(children, max_size=4).map(lambda parts: _joined("[", parts, "]")),
            _members(children),
        )
    ),
    max_leaves=12,
)


@st.composite
def mutated_documents(draw: st.DrawFn) -> bytes:
    """Give a document with up to three bytes dropped, doubled, replaced or inserted."""
    data = bytearray(draw(DOCUMENT_TEXTS).encode("utf-8", "surrogatepass"))
    interesting = st.sampled_from(
        b'[]{},:"\\-+.0123456789eEtfnu \x00\x1f\x7f\x80\xbf\xc0\xed\xef\xf4\xff'
    )
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                del data[at : at + 1]
            case 1:
                data[at:at] = data[at : at + 4]
            case 2:
                data[at : at + 1] = bytes([draw(interesting)])
            case _:
                data[at:at] = bytes([draw(interesting)])
    return bytes(data)


DOCUMENTS = st.one_of(
    DOCUMENT_TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    VALUES.map(lambda value: json.dumps(value).encode()),
    VALUES.map(lambda value: json.dumps(value, ensure_ascii=False, indent=1).encode()),
    mutated_documents(),
    st.binary(max_size=20),
)
