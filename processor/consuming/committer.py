"""Commits the positions of the agent, and reports to the liveness check how many records wait."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Protocol

from processor.consuming.agent import Agent
from shared.observability.health import Progress

MEASURE_TIMEOUT = timedelta(seconds=5)
"""Time-out of a measurement of lag. While the brokers are unavailable, Faust waits for a position without a limit, and
the commits must continue."""


class Partitions(Protocol):
    """The part of `processor.consuming.faust_app.CommandStream` that the committer uses."""

    @property
    def joined(self) -> bool:
        """Whether this process is a member of the group and no rebalance is running."""

    async def measure(self, agent: Agent) -> int:
        """Number of records in the assigned partitions that are not committed. May hang."""


class Committer:
    """Commits positions, and measures the records that wait for it."""

    def __init__(
        self, agent: Agent, partitions: Partitions, progress: Progress, *, measure_timeout: timedelta = MEASURE_TIMEOUT
    ) -> None:
        self._agent = agent
        self._partitions = partitions
        self._progress = progress
        self._measure_timeout = measure_timeout.total_seconds()

    async def commit(self) -> None:
        """Commit the settled positions. A commit that Kafka accepts counts as progress."""
        if await self._agent.commit():
            self._progress.advanced()

    async def measure(self) -> None:
        """Report how many records wait.

        The number is unknown if this process has not joined the group, or if the measurement times out. Then the report
        is at least 1, so that `Progress` detects a process that stays in this state.
        """
        self._progress.waiting(await self._backlog())

    async def _backlog(self) -> int:
        if self._partitions.joined:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._measure_timeout):
                    return await self._partitions.measure(self._agent)
        return max(1, self._agent.pending)
