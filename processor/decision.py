"""Decides how to answer a render command. A pure function of the command and the bucket's content (invariant 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.contract.events import Manifest, Ready
from shared.contract.logged_command import LoggedRenderCommand


@dataclass(frozen=True)
class Remove:
    """Delete the objects of the image and answer `removed`. `tombstone` is the version of the deletion."""

    tombstone: int


@dataclass(frozen=True)
class Supersede:
    """Answer `superseded`, with this later render."""

    later: Manifest


@dataclass(frozen=True)
class Repeat:
    """Answer with the result in the command's own manifest."""

    own: Manifest


@dataclass(frozen=True)
class Render:
    """Render the original and store the result."""


@dataclass(frozen=True)
class GiveUp:
    """Answer `failed`, because the original is lost."""


Decision = Remove | Supersede | Repeat | Render | GiveUp


def decide(
    logged: LoggedRenderCommand, tombstone: int | None, manifests: Sequence[Manifest], *, original_lost: bool = False
) -> Decision:
    """Return the decision of the first of these rules that applies.

    1. The image has a tombstone: Remove. A deletion is final (invariant 6).
    2. A later render is ready: Supersede. A failed render supersedes nothing, so a failed replacement leaves the
       previous revision in place (invariant 5). If the command has its own manifest, "later" means later than that
       manifest.
    3. The command has its own manifest: Repeat. A manifest is written once, so a repetition gives the same answer.
    4. The original is lost: GiveUp. No manifest is written, so that a redriven command can succeed if the original is
       restored.
    5. Otherwise: Render.

    `tombstone` is the version of the deletion, or None if the image is not deleted. The caller must read it after
    `manifests`, and after it missed the original. Otherwise objects that a deletion has just removed would count as
    objects that never existed.
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

    Renders of the same revision are compared by the version of the rendering command only. The reason: an upload that
    was appended twice introduces its revision twice, with two revision versions. A reprocess copies one of the two from
    the row, and both mean the same bytes.
    """

    def comes_after(found: Manifest) -> bool:
        if found.event.request.revision == revision:
            return found.event.version > precedence[1]
        return found.precedence > precedence

    ready = [found for found in manifests if isinstance(found.event, Ready) and comes_after(found)]
    return max(ready, key=lambda found: found.precedence, default=None)
