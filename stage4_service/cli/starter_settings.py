"""The settings file that `stage4 init` writes: complete, commented, for one machine.

Deliberately absent: a second place where defaults live. What is commented out says what holds
without it, and a test compares that with the settings themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

_TEMPLATE: Final = """\
# Settings of one Stage-4 process. Every name is checked: a misspelled one is refused.
# A variable such as STAGE4_LISTEN__CLIENTS takes the place of one setting.
# `stage4 serve --config FILE --print-config` shows all settings in force.

# Holds the store; `stage4 init` made it.
state_dir = {state_dir}

# The keys that stored results are encrypted with; `stage4 init` made them. Keep a copy, apart
# from copies of the store: without these keys nothing starts.
outcome_key_file = {outcome_key_file}

# The deployment's name in every identity, spiffe://<trust domain>/...
trust_domain = {trust_domain}

# Seconds that plans under way get to end when the service is told to stop.
# drain_s = 10.0

# debug, info, warning or error.
log_level = "info"

[listen]
# Clients submit plans here, auditors read.
clients = {clients}
# gRPC health without certificates; loopback only.
probes = {probes}
# Prometheus metrics and plain HTTP probes; empty: not served.
metrics = {metrics}

[tls]
certificate_file = {certificate_file}
key_file = {key_file}
# Callers are believed when this authority issued their certificate.
client_authority_file = {authority_file}

[stage3]
address = {stage3_address}
# Seconds to wait for a connection before a plan is refused, with nothing sent.
# connect_timeout_s = 2.0

[stage3.tls]
certificate_file = {caller_certificate_file}
key_file = {caller_key_file}
server_authority_file = {authority_file}
"""


def starter_settings(
    *,
    state_dir: Path,
    outcome_key_file: Path,
    trust_domain: str,
    certificates: Path,
    stage3_address: str,
    free_ports: bool,
) -> str:
    """Return the text of the file. With `free_ports` the system chooses where it listens."""

    def address(port: int) -> str:
        return _quote(f"127.0.0.1:{0 if free_ports else port}")

    return _TEMPLATE.format(
        state_dir=_quote(state_dir),
        outcome_key_file=_quote(outcome_key_file),
        trust_domain=_quote(trust_domain),
        clients=address(7401),
        probes=address(7402),
        metrics=address(9404),
        certificate_file=_quote(certificates / "stage4.crt"),
        key_file=_quote(certificates / "stage4.key"),
        authority_file=_quote(certificates / "ca.crt"),
        stage3_address=_quote(stage3_address),
        caller_certificate_file=_quote(certificates / "stage4-caller.crt"),
        caller_key_file=_quote(certificates / "stage4-caller.key"),
    )


def _quote(text: object) -> str:
    # A JSON string is a TOML basic string, except for DEL, which no sane path holds.
    return json.dumps(str(text), ensure_ascii=False)
