"""Handles one command: decides, executes the decision, and publishes exactly one answer.

The comments name the invariants of docs/architecture.md by their numbers.
"""

import hashlib
from typing import Protocol

from opentelemetry.trace import SpanKind

from processor.decision import Decision, GiveUp, Remove, Render, Repeat, Supersede, decide
from processor.lookup import find_manifests
from processor.rendering.render import Rendering
from processor.results import (
    delete_image,
    mark_ready,
    put_tombstone,
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
    """Renders an original to variants. Owners take turns, so an owner with many images does not delay the others."""

    async def __call__(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        """Render the variants of the ladder from the bytes of an original. Raises ImageRejected."""


class Handler:
    """Handles commands.

    Handling a command may stop at any step and start again from the beginning, even while another worker handles the
    same command.
    """

    def __init__(self, store: ObjectStore, renderer: Renderer, events: EventLog, public_base_url: str) -> None:
        self._store = store
        self._render = renderer
        self._events = events
        self._base_url = public_base_url

    async def handle(self, logged: LoggedCommand) -> Event | None:
        """Handle a command, publish its answer and return it. Returns None for a fence, which has no answer.

        1. All objects are stored before the answer is published, so an answer never names a missing object.
        2. The answer depends only on the tombstone, the manifests and the command (see `decide`), so a repetition gives
           the same answer.
        3. When this method returns, all in-sync replicas have the answer. The caller can then settle the command.

        Raises Unavailable or UnknownOutcome: retry the command. Raises PoisonRecord if a manifest, a tombstone or a
        stored variant is invalid.
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
        """Write the tombstone, then delete the image's objects.

        The order matters: another worker may still be writing objects of the image. It reads the tombstone after its
        writes, and deletes what it wrote (invariant 6).
        """
        with stage("delete"):
            tombstone = await put_tombstone(self._store, logged.command.image_id, logged.answer_version)
            await delete_image(self._store, logged.command.image_id)
        return logged.removed(tombstone)

    async def _resolve(self, logged: LoggedRenderCommand) -> Event:
        """Decide. If the decision is Render, render and decide again, until the decision is another one.

        After each attempt the decision may have changed: a manifest or a tombstone may have been written since, or the
        original may be missing.
        """
        decision = await self._decide(logged)
        while isinstance(decision, Render):
            made = await self._make(logged)
            if made is None:
                # The original is missing. The sweep may have deleted it because a later render is ready.
                decision = await self._decide(logged, original_lost=True)
            elif await self._keep(made) is made:
                # A deletion may have run while this worker wrote. It may have missed these objects, so read the
                # tombstone again.
                decision = decide(logged, await read_tombstone(self._store, logged.command.image_id), [made])
            else:
                # Another worker wrote the manifest of this render first. A later render may have superseded it since,
                # so read all manifests again.
                decision = await self._decide(logged)
        return await self._carry_out(decision, logged)

    async def _decide(self, logged: LoggedRenderCommand, *, original_lost: bool = False) -> Decision:
        with stage("look_up"):
            # If the original is missing, a render whose marker is missing may have superseded it.
            manifests = await find_manifests(self._store, logged, trust_markers=not original_lost)
            tombstone = await read_tombstone(self._store, logged.command.image_id)
        return decide(logged, tombstone, manifests, original_lost=original_lost)

    async def _carry_out(self, decision: Remove | Supersede | Repeat | GiveUp, logged: LoggedRenderCommand) -> Event:
        match decision:
            case Remove(tombstone):
                with stage("delete"):
                    await delete_image(self._store, logged.command.image_id)
                return logged.removed(tombstone)
            case Supersede(later):
                return logged.superseded(later)
            case Repeat(own):
                return logged.answered(own)
            case GiveUp():
                return logged.failed(Failure(type="original_lost", detail="The original is not in the bucket."))

    async def _keep(self, made: Manifest) -> Manifest:
        """Write the manifest and its marker; returns the stored one: `made`, or that of the worker that was first."""
        with stage("manifest"):
            stored = await write_manifest(self._store, made)
            await mark_ready(self._store, stored)
        return stored

    async def _make(self, logged: LoggedRenderCommand) -> Manifest | None:
        """Render and write the variants; returns the manifest, which is not written yet.

        Returns None if the original is missing.
        """
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
            raise ImageRejected(
                "corrupt", "The stored original differs from the uploaded file: its SHA-256 is different."
            )
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
