"""Commits what the agent has settled, and reports to the liveness check whether records wait without a commit."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Protocol

from processor.consuming.agent import Agent
from shared.observability.health import Progress

MEASURE_TIMEOUT = timedelta(seconds=5)
"""The consuming library asks for a position as long as the brokers are unavailable. Commits must go on."""


class Partitions(Protocol):
    """What is asked of the group's member, `processor.consuming.faust_app.CommandStream`."""

    @property
    def joined(self) -> bool:
        """Whether this process is a member of the group and no rebalance is under way."""

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
        """Commit what is settled; a position that moved is progress."""
        if await self._agent.commit():
            self._progress.advanced()

    async def measure(self) -> None:
        """Report how many records wait.

        If that is unknown, at least one is reported: a process for which it stays unknown hangs.
        """
        self._progress.waiting(await self._backlog())

    async def _backlog(self) -> int:
        if self._partitions.joined:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._measure_timeout):
                    return await self._partitions.measure(self._agent)
        return max(1, self._agent.pending)
