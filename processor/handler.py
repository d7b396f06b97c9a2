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
    Command,
    Current,
    Deleted,
    Event,
    Failed,
    Failure,
    Manifest,
    Original,
    OwnerCleared,
    Ready,
    Removed,
    RenderCommand,
    Superseded,
    SupersededBy,
    image_version,
    render_name,
    request_of,
    revision_version,
)
from shared.contract.keys import Owner, answer_version
from shared.contract.ladder import Ladder
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

    async def handle(self, command: Command, version: int) -> Event | None:
        """Do what the command asks and publish its one answer, which is returned; None for a fence, which has none.

        1. Whatever is stored is stored before the answer is published: an answer never points at nothing.
        2. The answer is a pure function of the manifest and the version: a repetition says the same.
        3. When this returns, all in-sync replicas have the answer: the command may be settled.

        Raises Unavailable or UnknownOutcome (try again), PoisonRecord where the bucket holds what no one can read.
        """
        match command:
            case OwnerCleared():
                return None
            case Deleted():
                event: Event = await self._delete(command, version)
            case _:
                event = await self._resolve(command, version)
        with stage("publish", SpanKind.PRODUCER):
            await self._events.publish(event, traceparent=tracing.traceparent())
        return event

    async def _delete(self, command: Deleted, version: int) -> Removed:
        """The tombstone goes first, so that whoever writes from now on sees it and cleans up (invariant 6)."""
        with stage("delete"):
            buried = await put_tombstone(self._store, command.image_id, answer_version(version))
            await delete_image(self._store, command.image_id)
        return _removed(command, version, buried)

    async def _resolve(self, command: RenderCommand, version: int) -> Event:
        with stage("look_up"):
            buried = await read_tombstone(self._store, command.image_id)
            manifests = [] if buried is not None else await read_manifests(self._store, command.image_id)
        if buried is not None:
            return await self._remove(command, version, buried)
        own = _own(manifests, command, version)
        mine = own.precedence if own else (revision_version(command, version), version)
        later = _later(manifests, command.revision, mine)
        if later is not None:
            return _superseded(command, version, later)
        manifest = own
        if manifest is None:
            made = await self._make(command, version)
            manifest = None if made is None else await self._keep(made)
            outrun = await self._answered(command, version) if made is None else manifest is not made
            if outrun:
                # Another worker was faster. It may have won the race for the manifest, and be superseded since; or the
                # sweep has taken the original behind it. Look again, now that there is a manifest.
                return await self._resolve(command, version)
        # Looked at after the manifest was written: if the delete came in between, it may not have seen our objects.
        buried = await read_tombstone(self._store, command.image_id)
        if buried is not None:
            return await self._remove(command, version, buried)
        if manifest is None:
            # No manifest: should the original come back, a redriven command may still succeed.
            return _failed(command, version, Failure(type="original_lost", detail="The original is not in the bucket."))
        return _answer(manifest, command, version)

    async def _answered(self, command: RenderCommand, version: int) -> bool:
        """Whether the bucket has a manifest now that answers this command."""
        manifests = await read_manifests(self._store, command.image_id)
        mine = (revision_version(command, version), version)
        return bool(_own(manifests, command, version) or _later(manifests, command.revision, mine))

    async def _keep(self, made: Manifest) -> Manifest:
        """Write the manifest; the one that is there, which is the winner's of a race."""
        with stage("manifest"):
            return await write_manifest(self._store, made)

    async def _remove(self, command: RenderCommand, version: int, buried: int) -> Removed:
        with stage("delete"):
            await delete_revision(self._store, command.image_id, command.revision)
        return _removed(command, version, buried)

    async def _make(self, command: RenderCommand, version: int) -> Manifest | None:
        """Render, and write the variants; the manifest is returned, not written. None where the original is gone."""
        try:
            with stage("download"):
                data = await self._store.get(command.original.path)
        except NotFound:
            return None
        try:
            event: Ready | Failed = await self._rendered(command, version, data)
        except ImageRejected as error:
            event = _failed(command, version, Failure(type=error.reason, detail=error.detail))
        return Manifest(render=render_name(command, version), event=event)

    async def _rendered(self, command: RenderCommand, version: int, data: bytes) -> Ready:
        if hashlib.sha256(data).hexdigest() != command.original.sha256:
            raise ImageRejected("corrupt", "The stored original is not what was uploaded: its SHA-256 differs.")
        rendering = await self._render(command.owner, data, command.ladder)
        with stage("upload"):
            variants = await write_variants(self._store, command, version, rendering.variants, self._base_url)
        current = Current(
            revision=command.revision,
            revision_version=revision_version(command, version),
            render=render_name(command, version),
            original=Original(**command.original.model_dump()),
            thumbhash=rendering.thumbhash,
            dominant_color=rendering.dominant_color,
            variants=variants,
            notes=rendering.notes,
        )
        return Ready(**_answer_fields(command, version), current=current)


def _own(manifests: list[Manifest], command: RenderCommand, version: int) -> Manifest | None:
    """The manifest that this command, or an earlier one for the same revision and ladder, has left."""
    name = render_name(command, version)
    for manifest in manifests:
        if manifest.render == name and manifest.event.request.revision == command.revision:
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


def _answer(manifest: Manifest, command: RenderCommand, version: int) -> Event:
    """The event of the manifest, as the answer to this command. `current` stays as it was rendered."""
    return manifest.event.model_copy(update=_answer_fields(command, version))


def _answer_fields(command: RenderCommand, version: int) -> dict[str, object]:
    return {
        "image_id": command.image_id,
        "owner": command.owner,
        "version": version,
        "answers": command.type,
        "image_version": image_version(command, version),
        "request": request_of(command, version),
    }


def _failed(command: RenderCommand, version: int, error: Failure) -> Failed:
    return Failed(**_answer_fields(command, version), error=error)


def _superseded(command: RenderCommand, version: int, later: Manifest) -> Superseded:
    by = SupersededBy(
        revision=later.event.request.revision,
        revision_version=later.event.request.revision_version,
        render=later.render,
    )
    return Superseded(**_answer_fields(command, version), superseded_by=by)


def _removed(command: RenderCommand | Deleted, version: int, buried: int) -> Removed:
    """Carries the higher of its own version and the tombstone's, so that no earlier answer outlives it in the index."""
    return Removed(
        image_id=command.image_id,
        owner=command.owner,
        version=version,
        answers=command.type,
        removed_version=max(answer_version(version), buried),
    )
