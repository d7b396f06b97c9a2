"""A command in the log together with its version, and the values that depend on both.

A command does not contain its version: the version comes from the record's offset (invariant 2). There are three
classes, because the commands have different properties: only a render command has a render, only a fence has a bound.
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
        """The answer if the image is deleted. `tombstone` is the version of the deletion.

        The answer deletes the row with the higher of the two versions as timestamp, so that no earlier answer of the
        image stays in the index.
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
        """Version of the command that introduced the revision. Except for a reprocess this is the command's own."""
        return self.command.revision_version if isinstance(self.command, Reprocess) else self.version

    @property
    def render(self) -> str:
        """Folder of the command's render: the ladder's digest, and for a reprocess also the command's version."""
        digest = self.command.ladder.digest
        return f"{digest}-{self.version}" if isinstance(self.command, Reprocess) else digest

    @property
    def precedence(self) -> tuple[int, int]:
        """Order of the command's render among the renders of the image. Compare it with `Manifest.precedence`."""
        return (self.revision_version, self.version)

    @property
    def request(self) -> Request:
        """The column group `request` of this command."""
        return Request(
            **self.command.original.model_dump(),
            revision=self.command.revision,
            revision_version=self.revision_version,
        )

    def ready(self, current: Current) -> Ready:
        """The answer if the variants are in the bucket."""
        return Ready(**self._answer_fields(), current=current)

    def failed(self, error: Failure) -> Failed:
        """The answer if the image cannot be rendered."""
        return Failed(**self._answer_fields(), error=error)

    def superseded(self, later: Manifest) -> Superseded:
        """The answer if a later render was ready first."""
        request = later.event.request
        by = SupersededBy(revision=request.revision, revision_version=request.revision_version, render=later.render)
        return Superseded(**self._answer_fields(), superseded_by=by)

    def answered(self, manifest: Manifest) -> Ready | Failed:
        """The manifest's result as the answer to this command. `current` of a ready result is not changed."""
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
        """The fence deletes the owner's images with a version below this one."""
        return self.version if self.command.before is None else self.command.before

    @property
    def bounded(self) -> OwnerCleared:
        """The fence with an explicit bound. Appended again, it deletes no image that is newer than its first place."""
        return self.command.model_copy(update={"before": self.before})


LoggedImageCommand = LoggedRenderCommand | LoggedDelete
LoggedCommand = LoggedImageCommand | LoggedFence


class CommandRecord(Protocol):
    """The fields of a record of the commands topic that `read_command` reads."""

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
    """Parse the command in a record; `epoch` is the epoch of its topic. Raises PoisonRecord.

    The version is computed from the offset. A redriven render command keeps the version that it had at first
    (invariant 2). A redriven delete or fence gets a new version, because it must apply to all records before it.
    """
    command = decode_command(record.value)
    version = command_version(epoch, record.offset)
    if isinstance(command, RenderCommand):
        first = first_version(record.headers)
        return LoggedRenderCommand(command, version if first is None else first)
    return versioned(command, version)


def versioned(command: Command, version: int) -> LoggedCommand:
    """Combine a command with its version."""
    match command:
        case OwnerCleared():
            return LoggedFence(command, version)
        case Deleted():
            return LoggedDelete(command, version)
        case _:
            return LoggedRenderCommand(command, version)
