"""A whole pipeline in memory behind a real port, for tests in a browser: gateway, real rendering, rows, live events."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from gateway.app import create_app
from gateway.container import ENGINES
from gateway.events.ring import Ring
from gateway.http.server import Server, make_server
from processor.handler import Handler
from processor.rendering.render import Rendering, RenderLimits, render
from shared.contract.encoding import encode
from shared.contract.events import Command, Event
from shared.contract.keys import Owner, command_version
from shared.contract.ladder import Ladder
from shared.contract.logged_command import versioned
from shared.errors import Unavailable
from shared.ports import Appended
from shared.read_model.documents import ImageRow
from shared.read_model.tables import event_writes
from tests.support.memory.gateway import MemoryGateway, memory_settings
from tests.support.memory.ports import MemoryEventLog
from tests.support.ports import free_port
from tests.support.waiting import wait_for

LIMITS = RenderLimits(max_pixels=64_000_000, max_side=16_383, max_frames=120, max_animation_pixels=64_000_000)
SECONDS = 30


@dataclass
class LivePipeline(MemoryGateway):
    """A gateway whose commands are answered by the processor's own handler and renderer."""

    kafka_is_available: bool = True
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._ring = Ring(self.settings.epoch, [0], max_bytes=1 << 26, max_age=600)
        self._threads = ThreadPoolExecutor(1)
        self._going = asyncio.Event()
        self._going.set()
        self._handler = Handler(self.store, self._render, MemoryEventLog(), self.settings.public_base_url)
        self.log.append = self._append  # type: ignore[method-assign]
        self.services.listeners.open(self._ring)
        for engine in ENGINES:
            self.services.availability.note(engine, True)

    @property
    def base_url(self) -> str:
        """URL of the gateway."""
        return self.settings.public_base_url

    def row(self, image_id: UUID) -> ImageRow | None:
        """The row of an image, from any thread."""
        return asyncio.run_coroutine_threadsafe(self.index.image(image_id), self.loop).result(SECONDS)

    def hold(self) -> None:
        """Answer no command until `release` is called."""
        self.loop.call_soon_threadsafe(self._going.clear)

    def release(self) -> None:
        """Answer the commands that wait, and further ones at once."""
        self.loop.call_soon_threadsafe(self._going.set)

    def set_kafka(self, available: bool) -> None:
        """Make Kafka unavailable or available again, as the gateway sees it."""
        self.kafka_is_available = available
        self.services.availability.note("kafka", available)

    async def _append(self, command: Command, *, traceparent: str | None = None) -> Appended:
        if not self.kafka_is_available:
            raise Unavailable("kafka", "stopped by the test")
        self.log.commands.append(command)
        offset = len(self.log.commands) - 1
        task = asyncio.get_running_loop().create_task(self._answer(command, offset))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Appended(0, offset)

    async def _answer(self, command: Command, offset: int) -> None:
        await self._going.wait()
        event = await self._handler.handle(versioned(command, command_version(self.settings.epoch, offset)))
        if event is not None:
            await self.index.apply(event_writes(event, self.settings.day_shards))
            self.services.changes.notify(event.image_id, event.owner)
            self._publish(event)

    def _publish(self, event: Event) -> None:
        added = self._ring.append(0, self._ring.next_offsets[0], event, encode(event))
        self.services.listeners.published(added)

    async def _render(self, owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, render, data, ladder, LIMITS)


@contextmanager
def live_pipeline(**changes: Any) -> Iterator[LivePipeline]:
    """A pipeline that serves on a free port from a thread of its own. `changes` are settings."""
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    settings = memory_settings(public_base_url=base_url, gateway_port=port, **changes)
    made: list[tuple[LivePipeline, Server]] = []

    async def serve() -> None:
        pipeline = LivePipeline(settings)
        server = make_server(create_app(pipeline.services), settings, 256)
        made.append((pipeline, server))
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    wait_for(lambda: made and made[0][1].started, SECONDS, "the pipeline serves")
    pipeline, server = made[0]
    try:
        yield pipeline
    finally:

        def end() -> None:
            pipeline.services.listeners.close()
            server.end()

        pipeline.loop.call_soon_threadsafe(end)
        thread.join(SECONDS)
