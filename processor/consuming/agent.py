"""From the stream of records to settled positions: reads, runs in lanes, commits, and lets go of revoked partitions."""

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
"""How often positions are committed: what a killed process did since is done again, and finds its manifests."""
COMMIT_TIMEOUT_SECONDS = 3.0
"""A commit that hangs (brokers away) must not hold up a revoke or the exit."""

Commit = Callable[[Mapping[int, int]], Awaitable[bool]]
"""Commits partition -> position; False where a rebalance was faster."""


class _Assignment:
    """The records read since partitions were last assigned. After a revoke there is a new one.

    What an old one still settles cannot move a position of the new one.
    """

    def __init__(self, bounds: Bounds, on_failure: Callable[[BaseException], None]) -> None:
        self.acks = Acks()
        self.lanes = Lanes(bounds, on_failure)
        self.appended: dict[tuple[int, int], float] = {}
        """When each record that is not settled was appended to the log, in seconds since 1970."""


class Agent:
    """Consumes commands: concurrently, in order per image, acked strictly in offset order (invariants 4 and 10).

    1. A record is read, parsed, and queued in its image's lane. While there is no room, nothing more is read.
    2. It is delivered: its answer, or the record itself in the DLQ, is acked by all in-sync replicas.
    3. It is settled; a partition's position moves once every lower offset is settled.
    4. Positions are committed explicitly every second, on revoke and at the end. The consuming library's own acks
       are off: those of skipped or failed events, and those out of order, would commit over unsettled records.
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
        """Records read and not committed."""
        return self._assignment.acks.pending

    def restart(self, partition: int) -> int | None:
        """The offset of a partition from which a restart would read on; None before any record."""
        return self._assignment.acks.restart(partition)

    async def accept(self, record: ConsumedRecord) -> None:
        """Take a record in; returns when there is room for the next. Called in the order of each partition's log."""
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
        """The partitions go to someone else: let running commands end, commit what is settled, forget the rest.

        What is not settled comes again, here or elsewhere, from the committed position.
        """
        self._reading = False
        await self._let_go(self._assignment, drain_seconds)
        self._assignment = _Assignment(self._bounds, self._on_failure)
        self._reading = not self._closed

    async def close(self, drain_seconds: float) -> None:
        """Take no more records, let running commands end until the drain deadline, and commit what is settled."""
        self._closed, self._reading = True, False
        await self._let_go(self._assignment, drain_seconds)

    async def _let_go(self, assignment: _Assignment, drain_seconds: float) -> None:
        cancelled = await assignment.lanes.close(drain_seconds)
        await self._commit(assignment.acks)
        log.info("commands_let_go", cancelled=cancelled, unsettled=assignment.acks.pending)
        self._measure()

    async def commit(self) -> bool:
        """Commit what is settled; whether a position moved."""
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
    """Commands of one image are in one lane; what concerns no image waits for nobody."""
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
