"""An MCP server that misbehaves on request, in nothing but the standard library.

Started by tests as a program, under any uid: it imports nothing of this project. Speaks the older
generation's handshake. Which tools it shows is read from a file, so that it can change its mind.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEBIBYTE = 1_048_576
OBJECT = {"type": "object"}
NOTES = Path(os.environ.get("TRIAL_NOTES", "/dev/null"))


Behaviour = Callable[[dict[str, Any], dict[str, Any]], "dict[str, Any] | str | None"]


def say(message: object) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Leave the effect that tests count."""
    with NOTES.open("a") as file:
        file.write(text + "\n")


def tools() -> list[dict[str, Any]]:
    """Return what is shown: each behaviour, described as the file of descriptions says."""
    described = {}
    if "TRIAL_DESCRIPTIONS" in os.environ:
        described = json.loads(Path(os.environ["TRIAL_DESCRIPTIONS"]).read_text())
    return [
        {
            "name": name,
            "description": described.get(name, f"Behaves as its name says: {name}."),
            "inputSchema": SCHEMAS.get(name, OBJECT),
        }
        for name in CALLS
        if described.get(name) != "gone"
    ]


def text(value: str) -> dict[str, Any]:
    """Return a result that holds one text."""
    return {"content": [{"type": "text", "text": value}]}


def echo(arguments: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """Answer with what came."""
    structured = {"arguments": arguments, "key": meta.get("stagegate/idempotency-key")}
    return {**text("echo"), "structuredContent": structured}


def effect(arguments: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    """Leave an effect, then answer."""
    note(str(arguments.get("note", "effect")))
    return text("done")


def effect_then(what: str) -> Behaviour:
    """Return a behaviour that leaves an effect and then does something else than answer."""

    def behave(arguments: dict[str, Any], _: dict[str, Any]) -> dict[str, Any] | None:
        effect(arguments, _)
        if what == "hang":
            time.sleep(600)
        if what == "die":
            os._exit(3)
        if what == "garbage":
            sys.stdout.write("Traceback (most recent call last): not a message\n")
        if what == "half":
            sys.stdout.write('{"jsonrpc":"2.0","id":')
        sys.stdout.flush()
        if what == "half":
            os._exit(0)
        return None

    return behave


def fail(_: dict[str, Any], __: dict[str, Any]) -> dict[str, Any]:
    """Answer that it failed."""
    return {**text("no such thing"), "isError": True}


def huge(_: dict[str, Any], __: dict[str, Any]) -> dict[str, Any]:
    """Answer with fifty mebibytes."""
    return text("x" * 50 * MEBIBYTE)


def oversized(_: dict[str, Any], __: dict[str, Any]) -> dict[str, Any]:
    """Answer with a little more than is declared."""
    return text("x" * 5000)


def asks(_: dict[str, Any], __: dict[str, Any]) -> dict[str, Any]:
    """Ask for something back."""
    return {"resultType": "input_required", "inputRequests": {}, "content": []}


def shapeless(_: dict[str, Any], __: dict[str, Any]) -> dict[str, Any]:
    """Answer with what is no result of a tool."""
    return {"content": "none"}


def duplicate(_: dict[str, Any], __: dict[str, Any]) -> str:
    """Answer with a result that two readers would read differently."""
    return '{"content":[],"content":[{"type":"text","text":"another"}]}'


def reach(arguments: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    """Say of each path and port whether it can be opened."""
    found: dict[str, Any] = {"uid": os.getuid(), "variables": sorted(os.environ)}
    for path in arguments.get("paths", []):
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - what is tried is the system call
                file.read(1)
            found[path] = "opened"
        except OSError as error:
            found[path] = type(error).__name__
    for port in arguments.get("ports", []):
        try:
            socket.create_connection(("127.0.0.1", port), 2).close()
            found[str(port)] = "connected"
        except OSError as error:
            found[str(port)] = type(error).__name__
    return {**text("tried"), "structuredContent": found}


def announce(_: dict[str, Any], __: dict[str, Any]) -> dict[str, Any]:
    """Say that the tools are others now."""
    say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    return text("announced")


def slow(_: dict[str, Any], __: dict[str, Any]) -> None:
    """Answer nothing, and go on with what comes next."""


def later(request_id: object) -> None:
    """Answer from another thread once a test says so; other calls are answered meanwhile."""

    def wait() -> None:
        while not Path(f"{NOTES}.go").exists():
            time.sleep(0.01)
        say({"jsonrpc": "2.0", "id": request_id, "result": text("at last")})

    note("later")
    threading.Thread(target=wait, daemon=True).start()


CALLS: dict[str, Behaviour] = {
    "slow": slow,
    "later": slow,
    "echo": echo,
    "effect": effect,
    "effect.then-hang": effect_then("hang"),
    "effect.then-die": effect_then("die"),
    "garbage": effect_then("garbage"),
    "half": effect_then("half"),
    "fail": fail,
    "huge": huge,
    "oversized": oversized,
    "asks": asks,
    "shapeless": shapeless,
    "duplicate": duplicate,
    "reach": reach,
    "announce": announce,
}
SCHEMAS = {
    "effect": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "title": "Effect",
        "x-order": 1,
        "properties": {"note": {"$ref": "#/definitions/line", "default": "effect"}},
        "definitions": {"line": {"type": "string", "maxLength": 40, "x-widget": "line"}},
        "additionalProperties": False,
    }
}


def answer(request: dict[str, Any]) -> None:
    """Answer one request."""
    method, request_id = request["method"], request["id"]
    params = request.get("params", {})
    result: object
    if method == "initialize":
        result = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "trial", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": tools()}
    elif method == "tools/call" and params["name"] == "later":
        later(request_id)
        return
    elif method == "tools/call" and params["name"] in CALLS:
        result = CALLS[params["name"]](params.get("arguments", {}), params.get("_meta", {}))
    else:
        error = {"code": -32601, "message": f"no method {method}"}
        say({"jsonrpc": "2.0", "id": request_id, "error": error})
        return
    if isinstance(result, str):
        sys.stdout.write(f'{{"jsonrpc":"2.0","id":{request_id},"result":{result}}}\n')
        sys.stdout.flush()
    elif result is not None:
        say({"jsonrpc": "2.0", "id": request_id, "result": result})


def main() -> None:
    """Answer one request after the other until the input ends."""
    if "TRIAL_START_S" in os.environ:
        time.sleep(float(os.environ["TRIAL_START_S"]))
    if "TRIAL_GREETING" in os.environ:
        sys.stdout.write(os.environ["TRIAL_GREETING"] + "\n")
        sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            answer(request)


if __name__ == "__main__":
    main()
