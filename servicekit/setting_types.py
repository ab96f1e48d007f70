"""Types of settings that every service has: what a value must be is said once.

Deliberately absent: any setting's name, and any default that a service should choose itself.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from servicekit.serving.identity import verify_trust_domain

LogLevel = Literal["critical", "error", "warning", "info", "debug"]
"""From the level that says least to the one that says most."""

TrustDomain = Annotated[str, AfterValidator(verify_trust_domain)]
"""The lower-case host name in every `spiffe://` identity of a deployment."""


class Section(BaseModel):
    """A table of settings: frozen, and refusing every name it does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckpointKeeping(Section):
    """Where the log's checkpoint is kept, outside the store, and what signs it."""

    # Best on another disk than `state_dir`: what restores an old copy of one leaves the other.
    # Absent: a directory beside `state_dir`, with `-checkpoint` added to its name.
    directory: Path | None = None
    # Made by `init`. Absent: `log.key` in `state_dir`, so that it is backed up with the store.
    key_file: Path | None = None
    # Seconds after which an entry is covered; what a kill leaves uncovered.
    interval_s: Annotated[float, Field(ge=0.1, le=60)] = 2.0

    def file_of(self, service: str, state_dir: Path) -> Path:
        """Return the checkpoint's own path."""
        beside = state_dir.absolute()
        directory = self.directory or beside.with_name(f"{beside.name}-checkpoint")
        return directory / f"{service}.checkpoint"

    def key_of(self, state_dir: Path) -> Path:
        """Return the key's own path."""
        return self.key_file or state_dir / "log.key"


class ListenerBounds(Section):
    """Bounds of a listener that carries plans."""

    # Calls that run side by side. One waits for the disk or another service most of its time: 32
    # keep one core busy, and 8 more are there when one client runs its whole share of 32.
    threads: Annotated[int, Field(ge=1, le=512)] = 40
    # Running and waiting for a turn: a short wait is cheaper than a refusal, a long one is not.
    max_in_flight: Annotated[int, Field(ge=1, le=4096)] = 64
    # Longest a call is served, and what a client without a deadline gets, in seconds.
    max_deadline_s: Annotated[float, Field(gt=0, le=3600)] = 300.0

    @model_validator(mode="after")
    def _threads_can_be_busy(self) -> Self:
        if self.max_in_flight < self.threads:
            raise ValueError("max_in_flight must be at least threads: the others would never work")
        return self
