"""`stage3 certs`: a development authority, the usual set of certificates, and their profiles.

Deliberately absent: renewal and revocation. A deployment that matters has an authority of its own;
its certificates need only the shape of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from servicekit.cli.instant import now_utc
from servicekit.cli.options import Json
from servicekit.cli.output import emit, print_table, say

app = typer.Typer(
    help="Make certificates of a development authority.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

OPERATORS_ADDRESS: Final = "127.0.0.1:7404"
CLIENTS_ADDRESS: Final = "127.0.0.1:7401"

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Where certificates are kept.")]


@dataclass(frozen=True, slots=True)
class _Caller:
    """A caller of the usual set; `calls` is the service that its profile is for, if it has one."""

    name: str
    path: str
    calls: str


_CALLERS: Final = (
    _Caller("stage3-caller", "stage3", ""),
    _Caller("stage4-caller", "stage4", ""),
    _Caller("operator", "operator/operator", "stage3"),
    _Caller("demo", "client/demo", "stage4"),
    _Caller("auditor", "auditor/auditor", "stage4"),
)


@app.command("init")
def init(
    directory: Directory,
    trust_domain: Annotated[
        str, typer.Option("--trust-domain", help="Name of the deployment in every identity.")
    ] = "dev.test",
    as_json: Json = False,
) -> None:
    """Make an authority and the usual certificates: both servers, both services, three people.

    Profiles for `operator`, `demo` and `auditor` are written beside their certificates.
    """
    from servicekit.certificates import create_authority, issue_caller, issue_server

    now = now_utc()
    authority = create_authority(directory, trust_domain, now)
    made = [("authority", f"spiffe://{trust_domain}", authority)]
    for server in ("stage3", "stage4"):
        name = f"{server}.{trust_domain}"
        made.append(("server", name, issue_server(directory, server, name, now)))
    profiles = []
    for caller in _CALLERS:
        uri = f"spiffe://{trust_domain}/{caller.path}"
        made.append(("caller", uri, issue_caller(directory, caller.name, uri, now)))
        if caller.calls:
            profiles.append(_write_profile(directory, caller.name, caller.calls, trust_domain))
    if as_json:
        certificates = [
            {"kind": kind, "name": name, "certificate_file": str(files.certificate_file)}
            for kind, name, files in made
        ]
        emit({"certificates": certificates, "profiles": [str(path) for path in profiles]})
        return
    print_table(
        ("kind", "names", "certificate"),
        [(kind, name, files.certificate_file) for kind, name, files in made],
    )
    say("profiles: " + ", ".join(str(path) for path in profiles))
    say("For development only: ca.key can make any caller. Keep it off machines that matter.")


@app.command("server")
def server(
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the files.")],
    dns: Annotated[str, typer.Option("--dns", help="The one DNS name that clients pin.")],
    as_json: Json = False,
) -> None:
    """Make one more server certificate."""
    from servicekit.certificates import issue_server

    files = issue_server(directory, name, dns, now_utc())
    _show(as_json, "server", dns, files.certificate_file, None)


@app.command("caller")
def caller(
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the files.")],
    identity: Annotated[
        str,
        typer.Option(
            "--identity",
            metavar="KIND/NAME",
            help="client/NAME, operator/NAME, auditor/NAME, domain/NAME, stage3 or stage4.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Make one more caller's certificate, and a profile for a client, an auditor or an operator.

    What an operator may do is not in the certificate: it is the setting `operators` of Stage-3.
    """
    from servicekit.certificates import issue_caller, trust_domain_of

    trust_domain = trust_domain_of(directory)
    uri = f"spiffe://{trust_domain}/{identity}"
    files = issue_caller(directory, name, uri, now_utc())
    calls = {"client": "stage4", "auditor": "stage4", "operator": "stage3"}
    service = calls.get(identity.partition("/")[0])
    profile = None
    if service is not None:
        profile = _write_profile(directory, name, service, trust_domain)
    _show(as_json, "caller", uri, files.certificate_file, profile)


def _show(as_json: bool, kind: str, name: str, certificate: Path, profile: Path | None) -> None:
    if as_json:
        document = {"kind": kind, "name": name, "certificate_file": str(certificate)}
        emit({**document, "profile": None if profile is None else str(profile)})
        return
    say(f"{name}: {certificate}" + ("" if profile is None else f", profile {profile}"))


def _write_profile(directory: Path, name: str, service: str, trust_domain: str) -> Path:
    address = {"stage3": OPERATORS_ADDRESS, "stage4": CLIENTS_ADDRESS}[service]
    path = directory / f"{name}.toml"
    # No secret is in it: it names the files that are.
    path.write_text(
        f"# Whom to call and as whom, for `{service} ... --profile` or {service.upper()}_PROFILE.\n"
        "# Paths are relative to this file.\n"
        f'service = "{service}"\n'
        f'address = "{address}"\n'
        f'server_name = "{service}.{trust_domain}"\n'
        'authority_file = "ca.crt"\n'
        f'certificate_file = "{name}.crt"\n'
        f'key_file = "{name}.key"\n'
        f'trust_domain = "{trust_domain}"\n'
    )
    return path
