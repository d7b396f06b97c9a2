"""What one command means: the bucket as it is and the command's version to exactly one answer (invariants 3, 5-7)."""

import hashlib
from typing import Protocol
from uuid import UUID

from opentelemetry.trace import SpanKind

from processor.rendering.render import Rendering
from processor.results import (
    delete_image,
    delete_revision,
    put_tombstone,
    read_manifests,
    read_tombstone,
    write_manifest,
    write_variants,
)
from processor.stages import stage
from shared.contract.events import (
    Current,
    Event,
    Failed,
    Failure,
    Manifest,
    Original,
    Ready,
    Removed,
)
from shared.contract.keys import Owner
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedCommand, LoggedDelete, LoggedFence, LoggedRenderCommand
from shared.errors import ImageRejected, NotFound
from shared.observability import tracing
from shared.ports import EventLog, ObjectStore


class Renderer(Protocol):
    """Turns an original into variants, in turn with the images of other owners."""

    async def __call__(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        """The variants of `data` that the ladder asks for. Raises ImageRejected."""


class Handler:
    """Handles commands over ports. Safe to repeat at any point, and beside another worker that does the same."""

    def __init__(self, store: ObjectStore, renderer: Renderer, events: EventLog, public_base_url: str) -> None:
        self._store = store
        self._render = renderer
        self._events = events
        self._base_url = public_base_url

    async def handle(self, logged: LoggedCommand) -> Event | None:
        """Do what the command asks and publish its one answer, which is returned; None for a fence, which has none.

        1. Whatever is stored is stored before the answer is published: an answer never points at nothing.
        2. The answer is a pure function of the manifest and the version: a repetition says the same.
        3. When this returns, all in-sync replicas have the answer: the command may be settled.

        Raises Unavailable or UnknownOutcome (try again), PoisonRecord where the bucket holds what no one can read.
        """
        match logged:
            case LoggedFence():
                return None
            case LoggedDelete():
                event: Event = await self._delete(logged)
            case LoggedRenderCommand():
                event = await self._resolve(logged)
        with stage("publish", SpanKind.PRODUCER):
            await self._events.publish(event, traceparent=tracing.traceparent())
        return event

    async def _delete(self, logged: LoggedDelete) -> Removed:
        """The tombstone goes first, so that whoever writes from now on sees it and cleans up (invariant 6)."""
        with stage("delete"):
            buried = await put_tombstone(self._store, logged.command.image_id, logged.answer_version)
            await delete_image(self._store, logged.command.image_id)
        return logged.removed(buried)

    async def _resolve(self, logged: LoggedRenderCommand) -> Event:
        with stage("look_up"):
            buried = await read_tombstone(self._store, logged.command.image_id)
            manifests = [] if buried is not None else await read_manifests(self._store, logged.command.image_id)
        if buried is not None:
            return await self._remove(logged, buried)
        own = _own(manifests, logged)
        mine = own.precedence if own else logged.precedence
        later = _later(manifests, logged.command.revision, mine)
        if later is not None:
            return logged.superseded(later)
        manifest = own
        if manifest is None:
            made = await self._make(logged)
            manifest = None if made is None else await self._keep(made)
            outrun = await self._answered(logged) if made is None else manifest is not made
            if outrun:
                # Another worker was faster. It may have won the race for the manifest, and be superseded since; or the
                # sweep has taken the original behind it. Look again, now that there is a manifest.
                return await self._resolve(logged)
        # Looked at after the manifest was written: if the delete came in between, it may not have seen our objects.
        buried = await read_tombstone(self._store, logged.command.image_id)
        if buried is not None:
            return await self._remove(logged, buried)
        if manifest is None:
            # No manifest: should the original come back, a redriven command may still succeed.
            return logged.failed(Failure(type="original_lost", detail="The original is not in the bucket."))
        return logged.answered(manifest)

    async def _answered(self, logged: LoggedRenderCommand) -> bool:
        """Whether the bucket has a manifest now that answers this command."""
        manifests = await read_manifests(self._store, logged.command.image_id)
        mine = logged.precedence
        return bool(_own(manifests, logged) or _later(manifests, logged.command.revision, mine))

    async def _keep(self, made: Manifest) -> Manifest:
        """Write the manifest; the one that is there, which is the winner's of a race."""
        with stage("manifest"):
            return await write_manifest(self._store, made)

    async def _remove(self, logged: LoggedRenderCommand, buried: int) -> Removed:
        with stage("delete"):
            await delete_revision(self._store, logged.command.image_id, logged.command.revision)
        return logged.removed(buried)

    async def _make(self, logged: LoggedRenderCommand) -> Manifest | None:
        """Render, and write the variants; the manifest is returned, not written. None where the original is gone."""
        try:
            with stage("download"):
                data = await self._store.get(logged.command.original.path)
        except NotFound:
            return None
        try:
            event: Ready | Failed = await self._rendered(logged, data)
        except ImageRejected as error:
            event = logged.failed(Failure(type=error.reason, detail=error.detail))
        return Manifest(render=logged.render, event=event)

    async def _rendered(self, logged: LoggedRenderCommand, data: bytes) -> Ready:
        if hashlib.sha256(data).hexdigest() != logged.command.original.sha256:
            raise ImageRejected("corrupt", "The stored original is not what was uploaded: its SHA-256 differs.")
        rendering = await self._render(logged.command.owner, data, logged.command.ladder)
        with stage("upload"):
            variants = await write_variants(self._store, logged, rendering.variants, self._base_url)
        current = Current(
            revision=logged.command.revision,
            revision_version=logged.revision_version,
            render=logged.render,
            original=Original(**logged.command.original.model_dump()),
            thumbhash=rendering.thumbhash,
            dominant_color=rendering.dominant_color,
            variants=variants,
            notes=rendering.notes,
        )
        return logged.ready(current)


def _own(manifests: list[Manifest], logged: LoggedRenderCommand) -> Manifest | None:
    """The manifest that this command, or an earlier one for the same revision and ladder, has left."""
    name = logged.render
    for manifest in manifests:
        if manifest.render == name and manifest.event.request.revision == logged.command.revision:
            return manifest
    return None


def _later(manifests: list[Manifest], revision: UUID, mine: tuple[int, int]) -> Manifest | None:
    """The latest ready render that comes after `mine`, if there is one; failures supersede nothing (invariant 5).

    Within one revision the rendering command decides alone: a command that was sent twice introduces its revision
    twice, and what was copied from the first is not older than what was copied from the second.
    """

    def comes_after(found: Manifest) -> bool:
        if found.event.request.revision == revision:
            return found.event.version > mine[1]
        return found.precedence > mine

    ready = [found for found in manifests if isinstance(found.event, Ready) and comes_after(found)]
    return max(ready, key=lambda found: found.precedence, default=None)
