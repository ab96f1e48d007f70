"""An MCP domain by itself for `bench.adapters`: what a plan's step asks, and no plan around it.

Its callers are threads, as in Stage-3. Whatever the server shows is accepted.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.tools import Tool
from bench.work import WrongAnswerError
from stage3_service.adapters.declarations_file import BUILTIN_METHODS
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.adapters.mcp.domain import McpDomain
from stage3_service.domains.definition import Definition
from stage3_service.domains.parse_declarations import parse_declarations
from stage3_service.domains.port import Invocation, Output

DEADLINE_S: Final = 30.0


class _Anything:
    """Accepts whatever is shown."""

    def is_accepted(self, _domain: str, _digest: str) -> bool:
        """Say yes."""
        return True

    def accepted(self, _domain: str) -> Definition | None:
        """Name nothing."""
        return None


@contextmanager
def lone_adapter(tool: Tool) -> Iterator[McpDomain]:
    """Open a domain as Stage-3 does, and close it afterwards."""
    catalogue = parse_declarations(
        {"domains": {tool.domain: tool.declared}},
        validators=compile_schema,
        builtin=BUILTIN_METHODS,
    )
    (declaration,) = catalogue
    domain = McpDomain(
        declaration,
        accepted=_Anything(),
        on_session=lambda _, __: None,
        on_doubt=lambda _: None,
    )
    try:
        yield domain
    finally:
        domain.close()


def invoke_in_a_loop(domain: McpDomain, tool: Tool, callers: int, seconds: float) -> list[float]:
    """Invoke a method in a closed loop of threads; return what each call took."""
    last = time.perf_counter() + seconds
    took: list[float] = []
    failures: list[BaseException] = []
    invocation = Invocation(tool.method, json.dumps(tool.asked).encode(), DEADLINE_S, "bench/0")

    def call() -> None:
        try:
            while (began := time.perf_counter()) < last:
                answer = domain.invoke(invocation)
                took.append(time.perf_counter() - began)
                if (
                    not isinstance(answer, Output)
                    or tool.answered.encode() not in answer.json_bytes
                ):
                    raise WrongAnswerError("the tool answered something else")
        except BaseException as failure:  # noqa: BLE001 - raised again where the round ends
            failures.append(failure)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return took
