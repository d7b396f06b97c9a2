"""The processor process: starts, runs until a signal or a fatal error, and stops in bounded time."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import structlog

from processor.consuming.agent import COMMIT_SECONDS, Agent
from processor.consuming.committer import Committer
from processor.consuming.delivery import Delivery
from processor.consuming.faust_app import CommandStream, make_app
from processor.consuming.lanes import Bounds
from processor.fairness import kept_pixels
from processor.handler import Handler
from processor.rendering.fair import FairRenderer
from processor.rendering.pool import RenderPool
from shared.consuming.delivery import DeliveryPolicy
from shared.errors import Unavailable
from shared.kafka.producer import Producer
from shared.kafka.topics import require_topics
from shared.kafka.writers import KafkaDeadLetters, KafkaEventLog
from shared.observability.health import InternalServer, Progress
from shared.observability.metrics import Service
from shared.s3.store import S3Store
from shared.settings import Settings, Topic

log = structlog.get_logger()

SOURCE = "imagepipe/processor"
DRAIN_SECONDS = 10.0
"""Time that running commands have after SIGTERM. With the time-outs of the other steps of `_stop` the process ends in
under 30 s, which orchestrators expect."""
WAITING_PER_IMAGE = 8
"""Records that are read ahead for each image that may run. With enough of them the lanes find commands of other owners
behind a long queue of one owner."""
MEASURE_EVERY = 5
"""Commits between two measurements of lag."""


class Processor:
    """One processor process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failed = asyncio.Event()
        self._error: BaseException | None = None
        self._store = S3Store.from_settings(settings)
        self._producer = Producer(settings)
        self._pool = RenderPool(settings.render_workers, settings.render_timeout.total_seconds())
        self._app = make_app(settings)
        self._stream = CommandStream(self._app, settings)
        self._renderer = FairRenderer(self._pool, settings)
        self._agent = self._make_agent()
        self._stream.feed(self._agent)
        # Longer than the longest command: two attempts to render the slowest image, and one outage.
        progress = Progress(2 * settings.render_timeout + settings.outage_retry_limit + timedelta(seconds=60))
        self._committer = Committer(self._agent, self._stream, progress)
        self._server = InternalServer(
            Service.PROCESSOR,
            settings.processor_internal_port,
            {
                "kafka": self._check_topics,
                "s3": self._store.check,
                "group": self._stream.check_joined,
            },
            progress.stalled,
            host=settings.internal_host,
        )

    def _make_agent(self) -> Agent:
        settings = self._settings
        handler = Handler(
            self._store,
            self._renderer,
            KafkaEventLog(self._producer, settings, SOURCE),
            settings.public_base_url,
        )
        policy = DeliveryPolicy.from_settings(settings, KafkaDeadLetters(self._producer, settings))
        bounds = Bounds(
            images=settings.max_inflight_images,
            bytes=settings.max_inflight_bytes,
            pixels=settings.max_inflight_pixels,
            waiting=WAITING_PER_IMAGE * settings.max_inflight_images,
            kept_pixels=kept_pixels(settings.render_workers, settings.max_inflight_pixels),
        )
        return Agent(
            Delivery(handler, policy), bounds, epoch=settings.epoch, commit=self._stream.commit, on_failure=self.fail
        )

    async def _check_topics(self) -> None:
        await self._producer.check([self._settings.topic(topic) for topic in Topic])

    def fail(self, error: BaseException) -> None:
        """Stop without settling the record. The supervisor starts the process again, which reads the record again."""
        self._error = self._error or error
        self._failed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain. Raises the first error that occurred, also while it stopped."""
        working = asyncio.create_task(self._work())
        ends = [asyncio.create_task(event.wait()) for event in (stop, self._failed)]
        await asyncio.wait([working, *ends], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            self._error = self._error or working.exception() or self._app.crash_reason
        await self._stop(working)
        for end in ends:
            end.cancel()
        if self._error is not None:
            raise self._error

    async def _work(self) -> None:
        """Start all parts, then commit every second. Raises the error with which Faust stopped or crashed."""
        await require_topics(self._settings)
        await self._producer.start()
        await self._pool.start()
        await self._server.start()
        await self._app.start()
        log.info("service_started", internal_port=self._server.port, group=self._app.conf.id)
        rounds = 0
        while not self._app.should_stop and not self._app.crashed:
            await self._app.sleep(COMMIT_SECONDS)
            await self._committer.commit()
            if rounds % MEASURE_EVERY == 0:
                self._pool.measure()
                await self._committer.measure()
            rounds += 1
        raise self._app.crash_reason or Unavailable("kafka", "the consumer stopped")

    async def _stop(self, working: asyncio.Task[None]) -> None:
        if self._error is not None:
            log.warning("service_stopping", reason=repr(self._error))
        # During an outage the running commands cannot end, so do not wait for them.
        drain = 0.0 if isinstance(self._error, Unavailable) else DRAIN_SECONDS
        await self._agent.close(drain)
        working.cancel()
        await _within(6, "faust", self._app.stop())
        await _within(3, "pool", self._pool.close(1))
        await _within(2, "producer", self._producer.close())
        await _within(2, "server", self._server.stop())
        await asyncio.gather(working, return_exceptions=True)


async def _within(seconds: float, part: str, step: Coroutine[Any, Any, None]) -> None:
    """Wait for a step of the stop, for at most `seconds`. The process ends even if the step does not.

    The step runs in its own task: after a crash Faust cancels its own stop, which must not cancel this function.
    """
    task = asyncio.create_task(step)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.cancel()
        log.warning("stop_timed_out", part=part, seconds=seconds)
    elif task.cancelled() or task.exception() is not None:
        log.warning("stop_failed", part=part, error=repr(None if task.cancelled() else task.exception()))


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Process commands until `stop` is set.

    Raises Unavailable, TooManyDeadLetters, OffsetsMissing, or an error of Faust: a restart may help. Raises
    ConfigurationError if a restart does not help.
    """
    await Processor(settings).run(stop)
