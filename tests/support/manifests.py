"""Random logs of one image, and the manifests that their commands may have left in the bucket."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from uuid import UUID

from hypothesis import strategies as st

from shared.contract.events import Failure, Manifest, Ready, RenderCommand
from shared.contract.keys import new_id
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedRenderCommand
from tests.support import records

IMAGE = new_id()
REVISIONS = [new_id() for _ in range(3)]
UPLOAD = LoggedRenderCommand(records.uploaded(IMAGE, REVISIONS[0]), 0)


@cache
def ready(logged: LoggedRenderCommand) -> Manifest:
    """The manifest that this command leaves if its picture can be rendered."""
    current = records.current(IMAGE, logged.command.revision, logged.revision_version, logged.render)
    return Manifest(render=logged.render, event=logged.ready(current))


@cache
def failed(logged: LoggedRenderCommand) -> Manifest:
    """The manifest that this command leaves if its picture cannot be rendered."""
    event = logged.failed(Failure(type="truncated", detail="The file ends before the picture does."))
    return Manifest(render=logged.render, event=event)


LADDERS = (Ladder(), Ladder(full_quality=70))


@dataclass(frozen=True)
class Bucket:
    """What the commands of a log have left, in the order in which it was written."""

    log: list[LoggedRenderCommand]
    manifests: list[Manifest]

    @property
    def ready(self) -> list[Manifest]:
        """The manifests of renders that are ready."""
        return [each for each in self.manifests if isinstance(each.event, Ready)]


def log_of(choices: Sequence[int], *, repeats: bool) -> list[LoggedRenderCommand]:
    """Commands in log order: an upload, replacements, reprocesses of any earlier revision; `repeats`: some twice.

    Each choice is a kind of command (its last two bits) and one of the earlier commands.
    """
    log = [UPLOAD]
    for version, choice in enumerate(choices, 1):
        introducing = [each for each in log if each.revision_version == each.version]
        revisions = len({each.command.revision for each in introducing})
        number, kind = divmod(choice, 4)
        if kind == 0 and revisions < len(REVISIONS):
            command: RenderCommand = replacement(revisions)
        elif kind == 1 and repeats:
            command = log[number % len(log)].command
        else:
            number, ladder = divmod(number, len(LADDERS))
            source = introducing[number % len(introducing)]
            command = reprocess(source.command.revision, source.version, ladder)
        log.append(LoggedRenderCommand(command, 2 * version))
    return log


@cache
def replacement(revision: int) -> RenderCommand:
    return records.replaced(IMAGE, 0, REVISIONS[revision])


@cache
def reprocess(revision: UUID, revision_version: int, ladder: int) -> RenderCommand:
    return records.reprocess(IMAGE, 0, revision, revision_version, ladder=LADDERS[ladder])


def bucket_of(commands: Sequence[int], manifests: Sequence[int], *, repeats: bool) -> Bucket:
    """A bucket in which each manifest was written once, by any of the commands that it answers.

    Each choice of a manifest is whether it is ready (its last bit) and which command wrote it.
    """
    log = log_of(commands, repeats=repeats)
    written: dict[tuple[UUID, str], Manifest] = {}
    for choice in manifests:
        logged = log[choice // 2 % len(log)]
        made = ready(logged) if choice % 2 else failed(logged)
        written.setdefault((logged.command.revision, logged.render), made)
    return Bucket(log, list(written.values()))


CHOICES = st.binary(max_size=6)
"""A byte for each command or manifest. What costs time here is the number of draws, and bytes are drawn at once."""


def buckets(*, repeats: bool = True) -> st.SearchStrategy[Bucket]:
    return st.builds(partial(bucket_of, repeats=repeats), CHOICES, CHOICES)


def is_of(manifest: Manifest, logged: LoggedRenderCommand) -> bool:
    """Whether this is the command's own manifest."""
    return (manifest.event.request.revision, manifest.render) == (logged.command.revision, logged.render)
