"""The state that a stack keeps under its root: ports, secrets, and its processes."""

import base64
import contextlib
import fcntl
import os
import secrets
import shlex
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Self

from pydantic import BaseModel, Field, ValidationError

from deploy.local.errors import StackError


class Phase(StrEnum):
    """Phase of a stack."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class PartPhase(StrEnum):
    """Phase of a part."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    STOPPED = "stopped"


class ProcessRef(BaseModel):
    """A process. `created`, its start in epoch seconds, distinguishes it from a later process with the same pid."""

    pid: int
    created: float


class PartState(BaseModel):
    """One part as its supervisor sees it. `restarts`: unexpected ends since `up`; `ready_url`: of services only."""

    phase: PartPhase = PartPhase.STOPPED
    process: ProcessRef | None = None
    url: str = ""
    ready_url: str = ""
    restarts: int = 0
    detail: str = ""


def _new_cluster_id() -> str:
    # Kafka takes a UUID in URL-safe base64 without padding, and its tools read a leading dash as an option.
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


class Secrets(BaseModel):
    """Random per stack. `root` administers the S3 server, `services` may only work in the bucket."""

    s3_root_key: str = Field(default_factory=lambda: f"root-{secrets.token_hex(6)}")
    s3_root_secret: str = Field(default_factory=lambda: secrets.token_urlsafe(24))
    s3_services_key: str = Field(default_factory=lambda: f"services-{secrets.token_hex(6)}")
    s3_services_secret: str = Field(default_factory=lambda: secrets.token_urlsafe(24))


class State(BaseModel):
    """The content of `state.json`. `stack_id` marks every process of the stack through its environment.

    The first `up` decides `cluster`: three nodes cannot use the data of one.
    """

    version: int = 1
    cluster: bool = False
    stack_id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    kafka_cluster_id: str = Field(default_factory=_new_cluster_id)
    secrets: Secrets = Field(default_factory=Secrets)
    ports: dict[str, int] = Field(default_factory=dict)
    phase: Phase = Phase.STOPPED
    message: str = ""
    gateway_url: str | None = None
    supervisor: ProcessRef | None = None
    parts: dict[str, PartState] = Field(default_factory=dict)


@dataclass(frozen=True)
class Root:
    """The directory of one stack and the names in it."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> Self:
        """The stack in this directory; absolute, because its parts may have other working directories."""
        return cls(path.expanduser().absolute())

    @property
    def state_file(self) -> Path:
        """Ports, secrets and processes; readable by the owner only."""
        return self.path / "state.json"

    @property
    def env_file(self) -> Path:
        """The services' settings as KEY=value lines; readable by the owner only."""
        return self.path / "env"

    @property
    def logs(self) -> Path:
        """One log per part."""
        return self.path / "logs"

    @property
    def data(self) -> Path:
        """One directory per engine."""
        return self.path / "data"

    @property
    def lock_file(self) -> Path:
        """Locked by the running supervisor, whose pid it holds. The kernel frees it when that process ends."""
        return self.path / "supervisor.lock"

    @property
    def ignore_file(self) -> Path:
        """Excludes data and secrets from the user's Git repository."""
        return self.path / ".gitignore"

    def create(self) -> None:
        """Make the directories, for the owner only."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True, mode=0o700)
        self.data.mkdir(exist_ok=True, mode=0o700)
        if not self.ignore_file.exists():
            self.ignore_file.write_text("*\n")

    def delete(self) -> None:
        """Remove what a stack made, and the directory itself unless something else is in it. Nothing may be running."""
        for directory in (self.data, self.logs):
            shutil.rmtree(directory, ignore_errors=True)
        for file in (self.state_file, self.env_file, self.ignore_file, self.lock_file):
            file.unlink(missing_ok=True)
        if self.path.exists() and not any(self.path.iterdir()):
            self.path.rmdir()

    def load(self) -> State | None:
        """The state as last written, or None where no stack was. Raises StackError when it cannot be read."""
        try:
            return State.model_validate_json(self.state_file.read_text())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError) as error:
            raise StackError(
                f"{self.state_file} cannot be read ({type(error).__name__}): run `imagepipe down --delete-data` with "
                f"this --root to start afresh, or put the file back from a copy."
            ) from error

    def save(self, state: State) -> None:
        """Write the state so that a reader sees the old one or the new one, never half of it."""
        write_private(self.state_file, state.model_dump_json(indent=2) + "\n")

    def try_lock(self) -> IO[str] | None:
        """The supervisor's lock, held as long as the returned file is open; None if a supervisor runs.

        `imagepipe up --detach` hands the open file to the supervisor and closes its own copy. Nothing unlocks it
        explicitly: that would end the lock for the supervisor as well, because both have the same open file.
        """
        file = self.lock_file.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def name_holder(self, lock: IO[str], holder: ProcessRef | None) -> None:
        """Write the holder into the lock's file: there is no state yet while the first `up` downloads."""
        # On a full disk the start itself reports the error.
        with contextlib.suppress(OSError):
            lock.truncate(0)
            lock.write(holder.model_dump_json() if holder else "")
            lock.flush()

    def holder(self) -> ProcessRef | None:
        """The process that locked last, None if that is unknown."""
        try:
            return ProcessRef.model_validate_json(self.lock_file.read_text())
        except (ValidationError, OSError):
            return None

    def is_supervised(self) -> bool:
        """Whether a supervisor runs for this root."""
        if not self.lock_file.exists():
            return False
        lock = self.try_lock()
        if lock is None:
            return True
        lock.close()
        return False

    def write_env(self, values: Mapping[str, str]) -> None:
        """Write the services' settings as assignments for a shell: `set -a; . <root>/env`."""
        lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(values.items())]
        write_private(self.env_file, "\n".join(lines) + "\n")

    def read_env(self) -> dict[str, str]:
        """The settings that `write_env` has written, with the values that a shell would assign; empty without a file.

        A dotenv parser would expand `${NAME}` and would not join quoted parts as a shell does. Raises StackError.
        """
        try:
            words = shlex.split(self.env_file.read_text(), comments=True)
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as error:
            raise StackError(f"{self.env_file} cannot be read ({error}): `imagepipe up` writes it again.") from error
        return {name: value for name, _, value in (word.partition("=") for word in words)}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
