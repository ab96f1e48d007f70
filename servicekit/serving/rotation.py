"""Certificates that are replaced in their files while the process runs.

What is used is always a whole that passed the checks of a start: a pair that is half written, of
two certificates, expired or of the wrong kind is not used, and what was used before stays. The log
says so once for each change.

The files are looked at when somebody is about to use them, and read only when their identity,
size or times have changed. Deliberately absent: a thread that watches, and a signal to send.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Final, cast

import grpc
from structlog.typing import FilteringBoundLogger

from servicekit.clock import Clock
from servicekit.serving.tls import Credential, CredentialFiles, CredentialRefused

LOOK_AGAIN: Final = timedelta(minutes=1)
"""How soon files that were refused are read again although they did not change: a certificate can
become valid by waiting."""

ReadCredential = Callable[[CredentialFiles, datetime], Credential]
_Stamp = tuple[int, ...]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Look:
    """What the files looked like, what is used since, and why it is not what they hold."""

    stamps: tuple[_Stamp, ...]
    credential: Credential
    refusal: str | None = None
    looked_at: datetime | None = None


class Rotation:
    """The credential in three files, as it was when they last held one. Any thread may ask."""

    def __init__(
        self,
        files: CredentialFiles,
        read: ReadCredential,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        """Read the files for the first time.

        Raises:
            CredentialRefused: they cannot be used; nothing was used before.
        """
        self._files = files
        # As text: they are looked at before every call, and a `Path` costs more than the look.
        self._paths = tuple(
            str(path) for path in (files.certificate_file, files.key_file, files.authority_file)
        )
        self._read = read
        self._clock = clock
        self._log = log
        self._lock = Lock()
        # Before reading, here and below: what changes while it is read has another stamp next time.
        stamps = self._stamps()
        self._look = _Look(stamps, read(files, self._now()))

    def current(self) -> Credential:
        """Return what is to be used from now on: the same object until the files change."""
        look = self._look
        stamps = self._stamps()
        if stamps == look.stamps and not self._is_time_to_look_again(look):
            return look.credential
        with self._lock:
            if self._look is look:
                self._look = self._look_again(look, stamps)
            return self._look.credential

    def remaining_s(self) -> float:
        """Return the seconds until the certificate in use expires, negative once it has."""
        return (self.current().expires_at - self._now()).total_seconds()

    def _look_again(self, before: _Look, stamps: tuple[_Stamp, ...]) -> _Look:
        now = self._now()
        try:
            credential = self._read(self._files, now)
        except CredentialRefused as refused:
            if (stamps, str(refused)) != (before.stamps, before.refusal):
                self._log.error(
                    "certificate_not_replaced",
                    file=str(refused.path),
                    description=refused.description,
                    advice=refused.advice,
                    used_until=before.credential.expires_at.isoformat(),
                )
            return _Look(stamps, before.credential, str(refused), now)
        used = before.credential
        if credential.content == used.content:
            # Touched, restored, or replaced between the stamps and the reading: nothing is new.
            return _Look(stamps, used)
        self._log.info(
            "certificate_replaced",
            file=str(self._files.certificate_file),
            serial_number=f"{credential.serial_number:x}",
            expires_at=credential.expires_at.isoformat(),
        )
        return _Look(stamps, credential)

    def _is_time_to_look_again(self, look: _Look) -> bool:
        return look.looked_at is not None and abs(self._now() - look.looked_at) >= LOOK_AGAIN

    def _now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._clock.now_us())

    def _stamps(self) -> tuple[_Stamp, ...]:
        return tuple(map(_stamp, self._paths))


def rotating_server_credentials(rotation: Rotation) -> grpc.ServerCredentials:
    """Return credentials for one listener: each handshake presents what is current, to all peers.

    gRPC asks at every handshake and takes None for no change. It remembers per listener, so each
    listener needs credentials of its own.
    """
    served = rotation.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        current = rotation.current()
        if current is served:
            return None
        served = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        # types-grpcio leaves out the None that gRPC documents.
        cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch),
        require_client_authentication=True,
    )


def _configuration(credential: Credential) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(credential.key, credential.chain)], credential.authority
    )


def _stamp(path: str) -> _Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 - see `Rotation`
    except OSError as error:
        return (error.errno or 0,)
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
