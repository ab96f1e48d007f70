"""The words of `stage3 token issue` as a request.

Only what the command line itself abbreviates is decided here; every rule of a token is Stage-3's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stagegate.stage3.v1 import token_service_pb2

from servicekit.cli.failure import CommandFailed
from servicekit.process import ExitCode


def issue_request(
    *,
    user_id: str,
    allow: Sequence[str],
    clients: Sequence[str],
    trust_domain: str,
    bearer: bool,
    triggers: Sequence[str],
    lifetime_s: int,
    capability: str,
    plan_digest: str | None,
    limits: Mapping[str, int | str | None],
) -> token_service_pb2.IssueTokenRequest:
    """Return the request.

    Raises:
        CommandFailed: USAGE; an abbreviation has no meaning.
    """
    scopes = _scopes(allow)
    request = token_service_pb2.IssueTokenRequest(
        user_id=user_id,
        capability=capability,
        domain_scope=[scope.domain for scope in scopes],
        method_scope=scopes,
        allowed_trigger_types=triggers,
        client_identities=[_identity(client, trust_domain) for client in clients],
        bearer=bearer,
        plan_digest=_digest(plan_digest),
    )
    try:
        request.lifetime_seconds = lifetime_s
        for name, value in limits.items():
            if value is not None:
                setattr(request.resource_limits, name, value)
    except ValueError as error:
        raise _usage(f"a number is out of range: {error}", "Use a number from 1.") from None
    return request


def _scopes(allow: Sequence[str]) -> list[token_service_pb2.MethodScope]:
    methods_of: dict[str, list[str]] = {}
    for text in allow:
        domain, separator, methods = text.partition(":")
        if not (domain and separator and methods):
            raise _usage(
                f"--allow {text!r} names no method",
                "Write DOMAIN:METHOD,METHOD; nothing stands for all methods.",
            )
        methods_of.setdefault(domain, []).extend(methods.split(","))
    return [
        token_service_pb2.MethodScope(domain=domain, methods=methods)
        for domain, methods in methods_of.items()
    ]


def _identity(client: str, trust_domain: str) -> str:
    if "://" in client:
        return client
    if not trust_domain:
        raise _usage(
            f"--client {client!r} is no identity, and the profile names no trust_domain",
            "Write spiffe://<trust domain>/client/NAME.",
        )
    return f"spiffe://{trust_domain}/client/{client}"


def _digest(text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except ValueError:
        raise _usage(
            "--plan-digest is not hexadecimal", "Copy what `stage4 plan validate` prints."
        ) from None


def _usage(message: str, advice: str) -> CommandFailed:
    return CommandFailed(ExitCode.USAGE, "USAGE", message, advice)
