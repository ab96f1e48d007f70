"""The parser against two others that share nothing with it: our second parser, and Node's."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import IO

import pytest
from hypothesis import example, given, settings

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from tests.unit.servicekit import second_parser
from tests.unit.servicekit.json_texts import DOCUMENTS, VALUES

LIMITS = JsonLimits()


@settings(max_examples=max(1_000, settings().max_examples))
@given(DOCUMENTS)
@example(b'{"a":[1,{"b":1,"b":2}]}')
@example(b'{"a":"\\\\\\ud800"}')
@example(b'{"a":{"a":-0}}')
def test_the_second_parser_gives_the_same_verdict_and_the_same_value(data: bytes) -> None:
    """Two parsers written apart from one specification never differ, however the text is broken."""
    try:
        expected = repr(second_parser.read(data))
    except second_parser.Refused:
        expected = "refused"
    for span_depth in (0, 2, 32):
        try:
            found = repr(parse(data, LIMITS, span_depth=span_depth).value)
        except JsonRefused:
            found = "refused"
        assert found == expected


# A request is a document in hexadecimal; the answer its value with every object's keys in the order
# of their UTF-16 units, which is the order of JavaScript's own sort.
NODE_PROGRAM = """
const sorted = (value) => {
  if (Array.isArray(value)) return '[' + value.map(sorted).join(',') + ']';
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const member = (key) => JSON.stringify(key) + ':' + sorted(value[key]);
  return '{' + Object.keys(value).sort().map(member).join(',') + '}';
};
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const text = Buffer.from(line, 'hex').toString('utf8');
  process.stdout.write(Buffer.from(sorted(JSON.parse(text)), 'utf8').toString('hex') + '\\n');
});
"""


class Node:
    """A process that reads documents as Node does and writes them as ECMAScript does."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers

    def canonical(self, data: bytes) -> bytes:
        """Give Node's canonical spelling of a document."""
        self._requests.write(data.hex().encode() + b"\n")
        self._requests.flush()
        return bytes.fromhex(self._answers.readline().decode().strip())


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """One Node process for all examples."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("NODE IS NOT INSTALLED: the parser was not compared with JSON.parse")
    with subprocess.Popen(
        [program, "-e", NODE_PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Node(process.stdin, process.stdout)
        process.stdin.close()


@settings(max_examples=max(300, settings().max_examples))
@given(data=DOCUMENTS)
def test_node_reads_every_accepted_document_as_the_same_value(node: Node, data: bytes) -> None:
    """What is accepted means the same in JavaScript, and its canonical form is JavaScript's."""
    try:
        value = parse(data, LIMITS).value
    except JsonRefused:
        return
    spelled = node.canonical(data)
    assert json.loads(spelled) == value
    assert spelled == canonicalize(value)


@settings(max_examples=max(300, settings().max_examples))
@given(value=VALUES)
def test_node_spells_every_accepted_value_as_we_do(node: Node, value: JsonValue) -> None:
    """Floats, escapes and the order of keys are ECMAScript's, on which RFC 8785 is defined."""
    assert canonicalize(value) == node.canonical(json.dumps(value).encode())
