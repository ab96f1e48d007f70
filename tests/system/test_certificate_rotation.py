"""Every certificate of a running pair and of a domain replaced in its files, nothing restarted."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from servicekit.certificates import issue_server
from stage3_service.settings import Tls as Stage3Tls
from stage4_service.settings import Stage3CallerTls
from stage4_service.settings import Tls as Stage4Tls
from tests.component.servicekit.odd_certificates import issue_odd, uri_name
from tests.harness.pair import plan_document, running_pair
from tests.harness.pki import pki, server_dns, uri
from tests.harness.rotation import put_pair, serial_shown
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.pair import Pair

EFFECT = step("trial", "effect")
SHORT = timedelta(seconds=100)
"""Life of a caller's certificate that a test lets expire: less than a step that halts Stage-3."""


def fresh_server(authority: Path, in_use: Path, server: str) -> int:
    """Issue a server's certificate anew and put it in use; return its serial number."""
    name = f"fresh-{len(list(authority.iterdir()))}"
    issue_server(authority, name, server_dns(server), datetime.now(UTC))
    return put_pair(authority / name, in_use / f"{server}-server")


def write_short_lived(path: Path) -> None:
    """Write a certificate of Stage-4 as a caller, and its key, to this path without suffix."""
    issued = issue_odd(
        pki().directory,
        [uri_name(uri("stage4"))],
        not_before=datetime.now(UTC).replace(microsecond=0),
        lifetime=SHORT,
    )
    for kind, content in zip((".crt", ".key"), issued, strict=True):
        path.with_name(path.name + kind).write_bytes(content)


@contextmanager
def own_files(directory: Path) -> Iterator[tuple[Pair, Path]]:
    """Run a pair on certificate files of its own."""
    files = directory / "files"
    files.mkdir()
    for name in ("ca", "stage3-server", "stage4-server", "stage4"):
        for kind in ("crt", "key"):
            shutil.copy(pki().file(f"{name}.{kind}"), files / f"{name}.{kind}")
    write_short_lived(files / "stage4")
    below: dict[str, Any] = {
        "tls": Stage3Tls(
            certificate_file=files / "stage3-server.crt",
            key_file=files / "stage3-server.key",
            client_authority_file=files / "ca.crt",
        )
    }
    above: dict[str, Any] = {
        "tls": Stage4Tls(
            certificate_file=files / "stage4-server.crt",
            key_file=files / "stage4-server.key",
            client_authority_file=files / "ca.crt",
        )
    }
    above["stage3_tls"] = Stage3CallerTls(
        certificate_file=files / "stage4.crt",
        key_file=files / "stage4.key",
        server_authority_file=files / "ca.crt",
    )
    with running_pair(directory, stage3=below, stage4=above) as pair:
        yield pair, files


@pytest.mark.slow
def test_every_listener_shows_a_replaced_certificate(tmp_path: Path) -> None:
    """Plans, operators and clients: the next handshake, and the plans in between all complete."""
    authority = tmp_path / "authority"
    authority.mkdir()
    for name in ("ca.crt", "ca.key"):
        shutil.copy(pki().file(name), authority / name)
    with own_files(tmp_path) as (pair, files):
        stage3, stage4 = pair.stage3.service, pair.stage4.service
        listeners = (
            (stage3.plans.address, "stage3", "stage4"),
            (stage3.operators.address, "stage3", "oona"),
            (stage4.addresses.clients, "stage4", "cli"),
        )
        for _ in range(2):
            fresh = {
                server: fresh_server(authority, files, server) for server in ("stage3", "stage4")
            }
            assert pair.stage4.execute(plan_document(pair.token(), EFFECT)).reason == ""
            for address, server, caller in listeners:
                shown = serial_shown(
                    address, server_dns(server), pki().file("ca.crt"), pki().file(caller)
                )
                assert shown == fresh[server], address
        assert set(stage3.certificates) == {"server"}
        assert set(stage4.certificates) == {"server", "stage3_client"}
        year_s = timedelta(days=365).total_seconds()
        assert 0 < year_s - stage4.certificates["server"].remaining_s() < SHORT.total_seconds()
        assert 0 < stage4.certificates["stage3_client"].remaining_s() <= SHORT.total_seconds()


@pytest.mark.slow
@pytest.mark.parametrize("is_replaced", [True, False])
def test_stage4_shows_stage3_a_replaced_certificate(tmp_path: Path, *, is_replaced: bool) -> None:
    """Its first one expires on the open connection; only where it was replaced do plans go on.

    The control is the second case: the same pair, the same time, the same files.
    """
    with own_files(tmp_path) as (pair, files):
        document = plan_document(pair.token(), EFFECT)
        assert pair.stage4.execute(document).reason == ""
        if is_replaced:
            put_pair(pki().file("stage4"), files / "stage4")
        pair.clock.advance(SHORT.total_seconds())

        answers = [pair.stage4.execute(document) for _ in range(3)]
        # The new connection takes over once it stands; the suite's own time limit ends this.
        while is_replaced and answers[-1].reason == "STAGE3_UNREACHABLE":
            answers.append(pair.stage4.execute(document))

    if is_replaced:
        assert answers[-1].reason == ""
    else:
        # Not the client's certificate, and it is not told so.
        assert answers[-1].reason == "STAGE3_UNREACHABLE"
        assert answers[-1].error is not None
        assert "the certificate that Stage-4 calls with" in answers[-1].error.message
