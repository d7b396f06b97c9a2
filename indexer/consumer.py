"""The consumer of the indexer: reads both topics, commits positions explicitly, and handles rebalances."""

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
from shared.kafka.record_batches import accept_any_header_name
from shared.observability import metrics
from shared.observability.health import Progress
from shared.settings import Settings, Topic

log = structlog.get_logger()

TOPICS = (Topic.COMMANDS, Topic.EVENTS)
BATCH = 200
"""Maximum number of records that are started together."""
WINDOW = 1000
"""Number of records of a partition, started and not committed yet, from which on no further batch of its records is
started. With BATCH it bounds the memory, and the number of records that are read again after a crash."""
POLL_SECONDS = 1.0
FULL_SECONDS = 0.05
"""Pause after which a partition whose window was full may go on."""
COMMIT_SECONDS = 0.5
"""Pause between two commits. Each commit is one request for all partitions."""
DRAIN_SECONDS = 15.0
"""Time that running records have at a revoke or SIGTERM. It is below the rebalance time-out, so that the group does not
remove this member."""
REBALANCE_TIMEOUT_MS = 60_000
"""Rebalance time-out. aiokafka's default is the session time-out (10 s), which is shorter than a drain."""
LAST_COMMIT_SECONDS = 5.0
"""Time-out of the commit after a drain. A revoke takes at most a drain and this commit (20 s). The exit after SIGTERM
also takes the close (25 s in all). So each ends within 30 s, even if an engine is unavailable."""
CLOSE_SECONDS = 5.0
"""Time-out to leave the group and close the connections."""


def kafka_consumer(settings: Settings) -> AIOKafkaConsumer:
    """A member of the group without automatic commits. Call this function in a running event loop."""
    accept_any_header_name()
    return AIOKafkaConsumer(
        **client_options(settings),
        group_id=settings.indexer_group,
        enable_auto_commit=False,
        # Without a valid committed position the consumer reads the partition from its beginning. A new group has no
        # position, and a group that was stopped for longer than Kafka keeps the log has an invalid one. Reading from
        # the beginning is safe, because applying a record again does not change the rows.
        auto_offset_reset="earliest",
        session_timeout_ms=int(settings.kafka_session_timeout.total_seconds() * 1000),
        heartbeat_interval_ms=int(settings.kafka_session_timeout.total_seconds() * 1000 / 4),
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        max_poll_interval_ms=int(POLL_INTERVAL.total_seconds() * 1000),
    )


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Consumes as a member of the group, until `stop` is set or an error makes a restart necessary."""

    def __init__(
        self,
        client: AIOKafkaConsumer,
        topics: Mapping[str, Topic],
        deliver: Deliver,
        progress: Progress,
        outage_limit: timedelta,
    ) -> None:
        """`topics` maps names in Kafka to topics. A commit that takes longer than `outage_limit` is an outage."""
        self._client = client
        self._topics = topics
        self._deliver = deliver
        self._progress = progress
        self._outage_limit = outage_limit.total_seconds()
        self._partitions: dict[TopicPartition, Partition] = {}
        self._joined = False
        self._stopping = False
        self._feed: asyncio.Task[None] | None = None
        self._committing = asyncio.Lock()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set. The topics must exist. Raises Unavailable, or the error of a delivery.

        1. Records are started in the order of their offsets. A record is settled when Cassandra has acknowledged its
           rows, when it is skipped, or when it is in the DLQ.
        2. Every half second the consumer commits a position for each partition. All records below that position are
           settled. The client's own position is never committed, because it is ahead of the settled records.
        3. At a revoke and at `stop` no new record is started. Running records have DRAIN_SECONDS to settle. Then the
           positions are committed, and the remaining records are cancelled. The next owner of the partition reads them
           again.
        4. After a failure there are no more commits.
        """
        committer: asyncio.Task[None] | None = None
        stopping = asyncio.create_task(stop.wait())
        try:
            await self._start()
            committer = asyncio.create_task(self._commit_periodically())
            ends: list[asyncio.Future[Any]] = [committer, stopping, self._failed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self._stopping = True
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
        """Check that Kafka answers, that the topics exist, and that this process is a member of the group.

        With more members than partitions some members have no partition; that is healthy. Raises Unavailable,
        ConfigurationError.
        """
        try:
            known = await self._client.topics()
        except KafkaError as error:
            raise Unavailable("kafka", repr(error)) from error
        if missing := sorted(self._topics.keys() - known):
            raise ConfigurationError(f"the topics {', '.join(missing)} do not exist any more")
        if not self._joined:
            raise Unavailable("kafka", "the consumer group is not joined yet")

    async def _start(self) -> None:
        try:
            await self._client.start()
        except (KafkaError, OSError) as error:
            raise Unavailable("kafka", f"cannot connect: {error!r}") from error
        self._client.subscribe(list(self._topics), listener=self)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start to read the partitions. aiokafka calls this method and only logs its errors."""
        if self._stopping:
            # A rebalance that was in progress: the records are left to the next owner.
            return
        for place in assigned:
            self._partitions[place] = Partition(self._deliver, self._fail, WINDOW)
        if self._partitions:
            self._feed = asyncio.create_task(self._start_records(dict(self._partitions)))
            self._feed.add_done_callback(self._feed_ended)
        self._joined = True
        metrics.ASSIGNED_PARTITIONS.set(len(self._partitions))
        log.info("partitions_assigned", count=len(self._partitions))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Drain all partitions: an eager rebalance revokes all. aiokafka calls this method and only logs its errors."""
        self._joined = False
        try:
            await self._drain()
        except Exception as error:
            self._fail(error)
        count = len(list(revoked))
        metrics.REBALANCES.inc(count > 0)
        log.info("partitions_revoked", count=count)

    async def _start_records(self, partitions: Mapping[TopicPartition, Partition]) -> None:
        """Start the records of these partitions, those of each in order, except of those whose window is full.

        One task for all: aiokafka wakes every task that waits for records whenever records of any partition arrive.
        """
        while True:
            # Without a partition the client would return the records of all.
            if with_room := [place for place, partition in partitions.items() if partition.has_room]:
                pause = POLL_SECONDS if len(with_room) == len(partitions) else FULL_SECONDS
                batch = await self._client.getmany(*with_room, timeout_ms=int(pause * 1000), max_records=BATCH)
                for place, records in batch.items():
                    for record in records:
                        partitions[place].start(ConsumedRecord.from_aiokafka(self._topics[place.topic], record))
            else:
                await asyncio.sleep(FULL_SECONDS)

    def _feed_ended(self, feed: asyncio.Task[None]) -> None:
        if not feed.cancelled() and (error := feed.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _drain(self) -> None:
        await self._end_feed()
        partitions = list(self._partitions.values())
        await asyncio.gather(*(partition.drain(DRAIN_SECONDS) for partition in partitions))
        if not self._failed.done():
            await self._commit(min(self._outage_limit, LAST_COMMIT_SECONDS))
        await asyncio.gather(*(partition.close() for partition in partitions))
        self._partitions.clear()
        metrics.ASSIGNED_PARTITIONS.set(0)
        metrics.LAG.clear()

    async def _end_feed(self) -> None:
        if self._feed is not None:
            self._feed.cancel()
            await asyncio.gather(self._feed, return_exceptions=True)

    async def _commit_periodically(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit(self._outage_limit)
            self._observe()

    async def _commit(self, seconds: float) -> None:
        """Commit the positions that moved. Raises Unavailable if Kafka does not accept them within `seconds`."""
        try:
            # aiokafka retries a commit without a limit while the broker is unavailable.
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
            # A rebalance has revoked a partition before the commit. The new owner reads these records again.
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
        """Set the metrics, and report to the liveness check how many records wait."""
        partitions = self._partitions.values()
        metrics.RECORDS_IN_FLIGHT.set(sum(partition.running for partition in partitions))
        metrics.OLDEST_SECONDS.set(max((partition.oldest_seconds() for partition in partitions), default=0))
        waiting = 0
        for place, partition in self._partitions.items():
            end = self._client.highwater(place)
            if end is None:
                continue
            # Until the first commit of this assignment the committed position is unknown. Until then the lag is the
            # number of records that are started and cannot be committed yet.
            lag = partition.pending if partition.committed is None else max(0, end - partition.committed)
            metrics.LAG.labels(self._topics[place.topic].value, str(place.partition)).set(lag)
            waiting += lag
        # During a rebalance the number of waiting records is unknown. It counts as at least 1, so that the liveness
        # check also detects a rebalance that never ends.
        self._progress.waiting(waiting if self._joined else max(1, waiting))

    async def _close(self) -> None:
        await self._end_feed()
        await asyncio.gather(*(partition.close() for partition in self._partitions.values()))
        self._partitions.clear()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.stop()
        except (TimeoutError, KafkaError) as error:
            # The group removes this member after the session time-out instead.
            log.warning("group_leave_failed", error=repr(error))
