"""The settings file that `stage3 init` writes: complete, commented, for one machine.

Deliberately absent: a second place where defaults live. What is commented out says what holds
without it, and a test compares that with the settings themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

_TEMPLATE: Final = """\
# Settings of one Stage-3 process. Every name is checked: a misspelled one is refused.
# A variable such as STAGE3_LISTEN__PLANS takes the place of one setting.
# `stage3 serve --config FILE --print-config` shows all settings in force.

# Holds the store and the state of builtin domains; `stage3 init` made it.
state_dir = {state_dir}

# The keys that stored outcomes are encrypted with; `stage3 init` made them. Keep a copy, apart
# from copies of the store: without these keys nothing starts.
outcome_key_file = {outcome_key_file}

# The deployment's name in every identity, spiffe://<trust domain>/...
trust_domain = {trust_domain}

# What is served. Without it: every builtin domain with all its methods.
{domains_file}

# Seconds that plans under way get to end when the service is told to stop; then no further step is
# started, and the steps that run get as long again.
# drain_s = 10.0

# debug, info, warning or error.
log_level = "info"

[listen]
# The one RPC, for Stage-4 only.
plans = {plans}
# Tokens, the audit log, the service itself: for operators.
operators = {operators}
# gRPC health without certificates; loopback only.
probes = {probes}
# Prometheus metrics and plain HTTP probes; empty: not served.
metrics = {metrics}

[tls]
certificate_file = {certificate_file}
key_file = {key_file}
# Callers are believed when this authority issued their certificate.
client_authority_file = {client_authority_file}

# What Stage-3 shows to domains that are services elsewhere (adapter = "grpc").
[domain_client]
certificate_file = {domain_certificate_file}
key_file = {domain_key_file}
# Domain services are believed when this authority issued their certificate.
server_authority_file = {server_authority_file}
# Seconds a step waits for a connection; without one it fails, and nothing was sent.
# connect_timeout_s = 2.0

# The name in an operator's certificate, and what it may do.
[operators]
operator = ["issuer", "revoker", "auditor", "halter", "curator"]

[tokens]
# Longest life of a token, in seconds.
# max_lifetime_s = 1800
# The same for a token bound to one plan and to its number of steps.
# max_bound_lifetime_s = 86400
"""


def starter_settings(
    *,
    state_dir: Path,
    outcome_key_file: Path,
    trust_domain: str,
    certificates: Path,
    domains_file: Path | None,
    free_ports: bool,
) -> str:
    """Return the text of the file. With `free_ports` the system chooses where it listens."""

    def address(port: int) -> str:
        return _quote(f"127.0.0.1:{0 if free_ports else port}")

    return _TEMPLATE.format(
        state_dir=_quote(state_dir),
        outcome_key_file=_quote(outcome_key_file),
        trust_domain=_quote(trust_domain),
        domains_file=(
            '# domains_file = "domains.toml"'
            if domains_file is None
            else f"domains_file = {_quote(domains_file)}"
        ),
        plans=address(7403),
        operators=address(7404),
        probes=address(7405),
        metrics=address(9403),
        certificate_file=_quote(certificates / "stage3.crt"),
        key_file=_quote(certificates / "stage3.key"),
        client_authority_file=_quote(certificates / "ca.crt"),
        domain_certificate_file=_quote(certificates / "stage3-caller.crt"),
        domain_key_file=_quote(certificates / "stage3-caller.key"),
        server_authority_file=_quote(certificates / "ca.crt"),
    )


def _quote(text: object) -> str:
    # A JSON string is a TOML basic string, except for DEL, which no sane path holds.
    return json.dumps(str(text), ensure_ascii=False)
