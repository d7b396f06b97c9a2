"""The consumer group of the index: takes records in, commits explicit contiguous positions, survives rebalances."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from indexer.partition import Deliver, Partition
from shared.consuming.record import ConsumedRecord
from shared.errors import ConfigurationError, Unavailable
from shared.kafka.producer import POLL_INTERVAL, client_options
from shared.observability import metrics
from shared.observability.health import Progress
from shared.settings import Settings, Topic

log = structlog.get_logger()

GROUP = "imagepipe-indexer"
TOPICS = (Topic.COMMANDS, Topic.EVENTS)
BATCH = 200
"""Records taken from one partition at once."""
WINDOW = 1000
"""Records of a partition above its committable position: what a crash redelivers at most, and memory, stay bounded."""
POLL_SECONDS = 1.0
COMMIT_SECONDS = 0.5
"""Pause between commits: one request for all partitions, however many records a second."""
DRAIN_SECONDS = 15.0
"""For records under way at a revoke or SIGTERM. Well below the rebalance timeout, so that the group waits for us."""
REBALANCE_TIMEOUT_MS = 60_000
"""aiokafka's default equals the session timeout, 10 s: less than a drain."""
LAST_COMMIT_SECONDS = 5.0
"""For the commit after a drain: SIGTERM is done in under 30 s whatever is away, and so is a revoke."""
CLOSE_SECONDS = 5.0


def group_id(settings: Settings) -> str:
    """Name of the consumer group of this deployment."""
    return f"{settings.topic_prefix}{GROUP}"


def kafka_consumer(settings: Settings) -> AIOKafkaConsumer:
    """A member of the group that commits nothing by itself. Needs a running loop."""
    return AIOKafkaConsumer(
        **client_options(settings),
        group_id=group_id(settings),
        enable_auto_commit=False,
        # Without a committed position (a new group, or one away for longer than the log is kept) everything there is
        # is read: rows converge whatever is repeated.
        auto_offset_reset="earliest",
        session_timeout_ms=int(settings.kafka_session_timeout.total_seconds() * 1000),
        heartbeat_interval_ms=int(settings.kafka_session_timeout.total_seconds() * 1000 / 4),
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        max_poll_interval_ms=int(POLL_INTERVAL.total_seconds() * 1000),
    )


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs the group's member until `stop` is set or something fails that only a restart can repair."""

    def __init__(
        self,
        client: AIOKafkaConsumer,
        topics: Mapping[str, Topic],
        deliver: Deliver,
        progress: Progress,
        outage_limit: timedelta,
    ) -> None:
        """`topics` maps physical names to logical ones. A commit that takes longer than `outage_limit` is an outage."""
        self._client = client
        self._topics = topics
        self._deliver = deliver
        self._progress = progress
        self._outage_limit = outage_limit.total_seconds()
        self._partitions: dict[TopicPartition, Partition] = {}
        self._joined = False
        self._feeds: set[asyncio.Task[None]] = set()
        self._committing = asyncio.Lock()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; the topics must exist. Raises Unavailable, or what a delivery raised.

        1. A record is started in offset order and settles when its rows are acknowledged, or it was skipped or
           dead-lettered.
        2. Every half second the positions below which all records of a partition are settled are committed: explicit
           offsets, never the client's own position, which is ahead of what is settled.
        3. At a revoke and at `stop` nothing new is started; what is under way settles until a deadline, then what is
           contiguous is committed and the rest is cancelled, to come again elsewhere.
        4. After a failure nothing is committed any more.
        """
        committer: asyncio.Task[None] | None = None
        stopping = asyncio.create_task(stop.wait())
        try:
            await self._start()
            committer = asyncio.create_task(self._commit_for_ever())
            ends: list[asyncio.Future[Any]] = [committer, stopping, self._failed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for outcome in (self._failed, committer):
                if outcome.done():
                    outcome.result()
            await self._drain()
        finally:
            background = [task for task in (committer, stopping) if task is not None]
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._close()

    async def check(self) -> None:
        """Return if Kafka answers, the topics exist and the group is joined. A member too many has no partitions.

        Raises Unavailable, ConfigurationError.
        """
        try:
            known = await self._client.topics()
        except KafkaError as error:
            raise Unavailable("kafka", repr(error)) from error
        if missing := sorted(self._topics.keys() - known):
            raise ConfigurationError(f"topics {', '.join(missing)} are gone")
        if not self._joined:
            raise Unavailable("kafka", "the consumer group is not joined yet")

    async def _start(self) -> None:
        try:
            await self._client.start()
        except (KafkaError, OSError) as error:
            raise Unavailable("kafka", f"cannot connect: {error!r}") from error
        self._client.subscribe(list(self._topics), listener=self)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by aiokafka, which would only log what is raised here."""
        for place in assigned:
            partition = Partition(self._deliver, self._fail, WINDOW)
            self._partitions[place] = partition
            feed = asyncio.create_task(self._feed(place, partition))
            self._feeds.add(feed)
            feed.add_done_callback(self._feed_ended)
        self._joined = True
        metrics.ASSIGNED_PARTITIONS.set(len(self._partitions))
        log.info("partitions_assigned", count=len(self._partitions))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by aiokafka, which would only log what is raised here. Rebalances are eager: everything goes."""
        self._joined = False
        try:
            await self._drain()
        except Exception as error:
            self._fail(error)
        count = len(list(revoked))
        metrics.REBALANCES.inc(count > 0)
        log.info("partitions_revoked", count=count)

    async def _feed(self, place: TopicPartition, partition: Partition) -> None:
        """Start the partition's records in order. A partition that is full is not read, the others are."""
        topic = self._topics[place.topic]
        while True:
            batch = await self._client.getmany(place, timeout_ms=int(POLL_SECONDS * 1000), max_records=BATCH)
            for record in batch.get(place, ()):
                await partition.admit(ConsumedRecord.from_aiokafka(topic, record))

    def _feed_ended(self, feed: asyncio.Task[None]) -> None:
        self._feeds.discard(feed)
        if not feed.cancelled() and (error := feed.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _drain(self) -> None:
        feeds = list(self._feeds)
        for feed in feeds:
            feed.cancel()
        await asyncio.gather(*feeds, return_exceptions=True)
        partitions = list(self._partitions.values())
        await asyncio.gather(*(partition.drain(DRAIN_SECONDS) for partition in partitions))
        if not self._failed.done():
            await self._commit(min(self._outage_limit, LAST_COMMIT_SECONDS))
        await asyncio.gather(*(partition.close() for partition in partitions))
        self._partitions.clear()
        metrics.ASSIGNED_PARTITIONS.set(0)
        metrics.LAG.clear()

    async def _commit_for_ever(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit(self._outage_limit)
            self._observe()

    async def _commit(self, seconds: float) -> None:
        """Commit what moved. Raises Unavailable where Kafka does not take it within this time."""
        try:
            # aiokafka repeats a commit for as long as the broker is away.
            async with asyncio.timeout(seconds), self._committing:
                await self._commit_moved()
        except TimeoutError as error:
            raise Unavailable("kafka", f"no commit within {seconds:g} s") from error

    async def _commit_moved(self) -> None:
        moved = {
            place: partition.position
            for place, partition in self._partitions.items()
            if partition.position is not None and partition.position != partition.committed
        }
        if not moved:
            return
        partitions = dict(self._partitions)
        try:
            await self._client.commit(moved)
        except (CommitFailedError, IllegalStateError) as error:
            # A rebalance was faster: the new owner reads these records again.
            metrics.COMMITS.labels("lost").inc()
            log.warning("commit_lost", error=str(error))
            return
        except KafkaError as error:
            raise Unavailable("kafka", f"commit: {error!r}") from error
        for place, position in moved.items():
            partitions[place].committed = position
        metrics.COMMITS.labels("done").inc()
        self._progress.advanced()

    def _observe(self) -> None:
        """Publish the lag, and tell liveness whether there is work."""
        partitions = self._partitions.values()
        metrics.RECORDS_IN_FLIGHT.set(sum(partition.running for partition in partitions))
        metrics.OLDEST_SECONDS.set(max((partition.oldest_seconds() for partition in partitions), default=0))
        waiting = 0
        for place, partition in self._partitions.items():
            end = self._client.highwater(place)
            if end is None:
                continue
            # Before anything was settled in this assignment, what is under way is what is known to wait.
            lag = partition.pending if partition.committed is None else max(0, end - partition.committed)
            metrics.LAG.labels(self._topics[place.topic].value, str(place.partition)).set(lag)
            waiting += lag
        # Without partitions nobody knows what waits; a rebalance that never ends is a hang, too.
        self._progress.waiting(waiting if self._joined else max(1, waiting))

    async def _close(self) -> None:
        for feed in list(self._feeds):
            feed.cancel()
        await asyncio.gather(*(partition.close() for partition in self._partitions.values()))
        self._partitions.clear()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.stop()
        except (TimeoutError, KafkaError) as error:
            # The group notices after the session timeout instead.
            log.warning("group_not_left", error=repr(error))
