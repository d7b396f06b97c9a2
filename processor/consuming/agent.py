"""The consumer of commands: reads records, runs them in lanes, commits positions, and handles revoked partitions."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from processor.consuming.acks import Acks, OffsetsMissing
from processor.consuming.delivery import Delivery, Task, parse
from processor.consuming.lanes import Bounds, Cost, Lanes, Work
from shared.consuming.record import ConsumedRecord
from shared.contract.logged_command import LoggedDelete, LoggedFence
from shared.errors import PoisonRecord
from shared.observability import metrics

log = structlog.get_logger()

COMMIT_SECONDS = 1.0
"""Pause between two commits. If the process is killed, the process that takes over handles the commands since the last
commit again. It finds their manifests, so it does not render again."""
COMMIT_TIMEOUT_SECONDS = 3.0
"""Time-out of a commit. A commit hangs while the brokers are unavailable, and must not block a revoke or the exit."""

Commit = Callable[[Mapping[int, int]], Awaitable[bool]]
"""Commits the positions of partitions. Returns False if a rebalance revoked one of the partitions before the commit."""


class _Assignment:
    """The records that were read since the last assignment of partitions. Each revoke starts a new `_Assignment`.

    If a record of an old assignment is settled late, it cannot move a position of the new assignment.
    """

    def __init__(self, bounds: Bounds, on_failure: Callable[[BaseException], None]) -> None:
        self.acks = Acks()
        self.lanes = Lanes(bounds, on_failure)
        self.appended: dict[tuple[int, int], float] = {}
        """Append time of each record that is not settled, in seconds since 1970. The key is (partition, offset)."""


class Agent:
    """Consumes commands, and commits positions in the order of offsets (invariants 4 and 10).

    Images run concurrently. The commands of one image run in order.

    1. The agent reads a record, parses it, and queues it in the lane of its image. It reads no more while the queue is
       full.
    2. The delivery publishes the answer of the command, or writes the record to the DLQ. All in-sync replicas must
       acknowledge it.
    3. The record is then settled. A partition's position moves when all lower offsets are settled.
    4. The agent commits positions explicitly: every second, on a revoke, and at the end. Faust's own acks are off.
       Faust would also ack records that it skipped and records whose handling failed, and it would ack records out of
       order. So a commit by Faust could set a position above records that are not settled.
    """

    def __init__(
        self,
        delivery: Delivery,
        bounds: Bounds,
        *,
        epoch: int,
        commit: Commit,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._delivery = delivery
        self._bounds = bounds
        self._epoch = epoch
        self._commit_positions = commit
        self._on_failure = on_failure
        self._assignment = _Assignment(bounds, on_failure)
        self._reading = True
        self._closed = False
        self._committing = asyncio.Lock()

    @property
    def pending(self) -> int:
        """Records that were read and are not committed (see `Acks.pending`)."""
        return self._assignment.acks.pending

    def restart(self, partition: int) -> int | None:
        """The offset from which a restarted process would read the partition; None if no record was read."""
        return self._assignment.acks.restart(partition)

    async def accept(self, record: ConsumedRecord) -> None:
        """Queue a record; returns when there is room for the next one.

        Call it for the records of a partition in the order of their offsets.
        """
        assignment = self._assignment
        if not self._reading:
            return
        try:
            first_time = assignment.acks.start(record.partition, record.offset)
        except OffsetsMissing as error:
            self._reading = False
            self._on_failure(error)
            return
        if first_time:
            assignment.appended[record.partition, record.offset] = record.appended_at or time.time()
            await assignment.lanes.submit(self._work(parse(record, self._epoch), assignment))
        self._measure()

    def _work(self, task: Task, assignment: _Assignment) -> Work:
        async def run() -> None:
            await self._delivery.deliver(task)
            assignment.acks.settle(task.record.partition, task.record.offset)
            del assignment.appended[task.record.partition, task.record.offset]
            self._measure()

        return Work(lane=_lane(task), owner=_owner(task), cost=_cost(task), run=run)

    async def revoke(self, drain_seconds: float) -> None:
        """Prepare for the loss of the partitions: wait for running commands, commit positions, forget the records.

        The next owner of a partition, which may be this process, reads again from the committed position.
        """
        self._reading = False
        await self._drain(self._assignment, drain_seconds)
        self._assignment = _Assignment(self._bounds, self._on_failure)
        self._reading = not self._closed

    async def close(self, drain_seconds: float) -> None:
        """Stop reading, wait for running commands until the drain deadline, and commit the settled positions."""
        self._closed, self._reading = True, False
        await self._drain(self._assignment, drain_seconds)

    async def _drain(self, assignment: _Assignment, drain_seconds: float) -> None:
        cancelled = await assignment.lanes.close(drain_seconds)
        await self._commit(assignment.acks)
        log.info("commands_drained", cancelled=cancelled, unsettled=assignment.acks.pending)
        self._measure()

    async def commit(self) -> bool:
        """Commit the settled positions. Returns whether Kafka accepted a new position."""
        self._measure()
        return await self._commit(self._assignment.acks)

    async def _commit(self, acks: Acks) -> bool:
        async with self._committing:
            positions = acks.committable()
            if not positions:
                return False
            try:
                done = await asyncio.wait_for(self._commit_positions(positions), COMMIT_TIMEOUT_SECONDS)
            except TimeoutError:
                log.warning("commit_timed_out", positions=positions)
                return False
            metrics.COMMITS.labels("done" if done else "lost").inc()
            if done:
                acks.committed(positions)
            return done

    def _measure(self) -> None:
        lanes, appended = self._assignment.lanes, self._assignment.appended
        metrics.RUNNING.set(lanes.running)
        metrics.WAITING.set(lanes.waiting)
        metrics.HELD_BYTES.set(lanes.held.bytes)
        metrics.HELD_PIXELS.set(lanes.held.pixels)
        metrics.OLDEST_SECONDS.set(max(0.0, time.time() - min(appended.values())) if appended else 0)


def _lane(task: Task) -> str:
    """The lane of a task: one lane for each image. A fence or a record that cannot be parsed has its own lane."""
    if isinstance(task.content, PoisonRecord | LoggedFence):
        return f"{task.record.partition}:{task.record.offset}"
    return str(task.content.command.image_id)


def _owner(task: Task) -> str:
    return "" if isinstance(task.content, PoisonRecord) else task.content.command.owner.key


def _cost(task: Task) -> Cost:
    if isinstance(task.content, PoisonRecord | LoggedFence | LoggedDelete):
        return Cost()
    original = task.content.command.original
    return Cost(original.size, original.width * original.height)
