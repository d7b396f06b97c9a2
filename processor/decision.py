"""What to do for a command that renders: a pure function of the command and of what the bucket holds (invariant 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.contract.events import Manifest, Ready
from shared.contract.logged_command import LoggedRenderCommand


@dataclass(frozen=True)
class Remove:
    """Delete the revision's objects, and answer `removed`. `tombstone` is the version of the image's deletion."""

    tombstone: int


@dataclass(frozen=True)
class Supersede:
    """Answer `superseded` by this render."""

    later: Manifest


@dataclass(frozen=True)
class Repeat:
    """Answer with the result in the command's own manifest."""

    own: Manifest


@dataclass(frozen=True)
class Render:
    """Render the original, and store the result."""


@dataclass(frozen=True)
class GiveUp:
    """Answer that the original is lost."""


Decision = Remove | Supersede | Repeat | Render | GiveUp


def decide(
    logged: LoggedRenderCommand, tombstone: int | None, manifests: Sequence[Manifest], *, original_lost: bool = False
) -> Decision:
    """The first of these rules that applies.

    1. The image has a tombstone: Remove. A deletion is final, whatever else the bucket holds (invariant 6).
    2. A later render is ready: Supersede. A render that failed supersedes nothing, so that a failed replacement leaves
       the previous revision in place (invariant 5). The command stands where its own manifest does, if it has one.
    3. The command has its own manifest: Repeat. Manifests are written once, so a repetition gives the same answer.
    4. The original is lost: GiveUp. Without a manifest a redriven command may still succeed later.
    5. Otherwise: Render.

    `tombstone` is the version of the image's deletion, None while the image lives. It must be read after `manifests`
    and after the original was missed: what a deletion has taken is then never mistaken for what was not there.
    """
    if tombstone is not None:
        return Remove(tombstone)
    own = _own(manifests, logged)
    later = _later(manifests, logged.command.revision, own.precedence if own else logged.precedence)
    if later is not None:
        return Supersede(later)
    if own is not None:
        return Repeat(own)
    return GiveUp() if original_lost else Render()


def _own(manifests: Sequence[Manifest], logged: LoggedRenderCommand) -> Manifest | None:
    """The manifest of this command, or of another one for the same revision and ladder."""
    for manifest in manifests:
        if manifest.render == logged.render and manifest.event.request.revision == logged.command.revision:
            return manifest
    return None


def _later(manifests: Sequence[Manifest], revision: UUID, precedence: tuple[int, int]) -> Manifest | None:
    """The latest ready render that comes after `precedence`, or None.

    Within one revision the rendering command decides alone: a command that was sent twice introduces its revision
    twice, and what was copied from the first is not older than what was copied from the second.
    """

    def comes_after(found: Manifest) -> bool:
        if found.event.request.revision == revision:
            return found.event.version > precedence[1]
        return found.precedence > precedence

    ready = [found for found in manifests if isinstance(found.event, Ready) and comes_after(found)]
    return max(ready, key=lambda found: found.precedence, default=None)
