"""A command as it lies in the log: the command, its version, and what follows from the two together.

A command does not know its version; the record that holds it does (invariant 2). There is one class for each kind of
command, because the kinds differ in what they have: only what renders has a render, only a fence has a bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from shared.contract.encoding import decode_command
from shared.contract.events import (
    Command,
    Current,
    Deleted,
    Failed,
    Failure,
    ImageCommand,
    Manifest,
    OwnerCleared,
    Ready,
    Removed,
    RenderCommand,
    Reprocess,
    Request,
    Superseded,
    SupersededBy,
    Uploaded,
)
from shared.contract.headers import ReceivedHeaders, first_version
from shared.contract.keys import answer_version, command_version

AnyCommand = TypeVar("AnyCommand", bound=Command)
AnyImageCommand = TypeVar("AnyImageCommand", bound=ImageCommand)


@dataclass(frozen=True)
class _Logged(Generic[AnyCommand]):
    command: AnyCommand
    version: int

    @property
    def answer_version(self) -> int:
        """Version of the answer."""
        return answer_version(self.version)


@dataclass(frozen=True)
class _LoggedOfImage(_Logged[AnyImageCommand]):
    def removed(self, tombstone: int) -> Removed:
        """The answer where the image is deleted; `tombstone` is the version of the deletion.

        It carries the higher of the two versions, so that no earlier answer outlives it in the index.
        """
        return Removed(
            image_id=self.command.image_id,
            owner=self.command.owner,
            version=self.version,
            answers=self.command.type,
            removed_version=max(self.answer_version, tombstone),
        )


@dataclass(frozen=True)
class LoggedRenderCommand(_LoggedOfImage[RenderCommand]):
    """An upload, a replacement or a reprocess."""

    @property
    def image_version(self) -> int:
        """Version of the command that introduced the image."""
        return self.version if isinstance(self.command, Uploaded) else self.command.image_version

    @property
    def revision_version(self) -> int:
        """Version of the command that introduced the revision: this one's own, except for a reprocess."""
        return self.command.revision_version if isinstance(self.command, Reprocess) else self.version

    @property
    def render(self) -> str:
        """Folder of the command's render: the ladder's digest, with the command's version for a reprocess."""
        digest = self.command.ladder.digest
        return f"{digest}-{self.version}" if isinstance(self.command, Reprocess) else digest

    @property
    def precedence(self) -> tuple[int, int]:
        """Place of the command's render among those of the image; compares with `Manifest.precedence`."""
        return (self.revision_version, self.version)

    @property
    def request(self) -> Request:
        """The column group `request` as this command states it."""
        return Request(
            **self.command.original.model_dump(),
            revision=self.command.revision,
            revision_version=self.revision_version,
        )

    def ready(self, current: Current) -> Ready:
        """The answer where the variants are in the bucket."""
        return Ready(**self._answer_fields(), current=current)

    def failed(self, error: Failure) -> Failed:
        """The answer where the picture cannot be rendered."""
        return Failed(**self._answer_fields(), error=error)

    def superseded(self, later: Manifest) -> Superseded:
        """The answer where a later render was ready first."""
        request = later.event.request
        by = SupersededBy(revision=request.revision, revision_version=request.revision_version, render=later.render)
        return Superseded(**self._answer_fields(), superseded_by=by)

    def answered(self, manifest: Manifest) -> Ready | Failed:
        """The result in the manifest as the answer to this command. `current` stays as it was rendered."""
        return manifest.event.model_copy(update=self._answer_fields())

    def _answer_fields(self) -> Mapping[str, Any]:
        return {
            "image_id": self.command.image_id,
            "owner": self.command.owner,
            "version": self.version,
            "answers": self.command.type,
            "image_version": self.image_version,
            "request": self.request,
        }


@dataclass(frozen=True)
class LoggedDelete(_LoggedOfImage[Deleted]):
    """The deletion of an image."""


@dataclass(frozen=True)
class LoggedFence(_Logged[OwnerCleared]):
    """The clearing of an owner."""

    @property
    def before(self) -> int:
        """The owner's images below this version are deleted."""
        return self.version if self.command.before is None else self.command.before

    @property
    def bounded(self) -> OwnerCleared:
        """The fence with its bound written out, for a second place in a log: it clears nothing that came after it."""
        return self.command.model_copy(update={"before": self.before})


LoggedImageCommand = LoggedRenderCommand | LoggedDelete
LoggedCommand = LoggedImageCommand | LoggedFence


class CommandRecord(Protocol):
    """What is read of a record of the commands topic."""

    @property
    def offset(self) -> int:
        """Offset in its partition."""

    @property
    def value(self) -> bytes | None:
        """JSON of the command."""

    @property
    def headers(self) -> ReceivedHeaders:
        """Headers as they were received."""


def read_command(record: CommandRecord, epoch: int) -> LoggedCommand:
    """The command in a record; `epoch` is that of its topic. Raises PoisonRecord.

    The version is that of the offset. A redriven command keeps the version that it had at first (invariant 2); deletes
    and fences do not: they must win over everything that came before their new place.
    """
    command = decode_command(record.value)
    version = command_version(epoch, record.offset)
    if isinstance(command, RenderCommand):
        first = first_version(record.headers)
        return LoggedRenderCommand(command, version if first is None else first)
    return versioned(command, version)


def versioned(command: Command, version: int) -> LoggedCommand:
    """The command with its version."""
    match command:
        case OwnerCleared():
            return LoggedFence(command, version)
        case Deleted():
            return LoggedDelete(command, version)
        case _:
            return LoggedRenderCommand(command, version)
