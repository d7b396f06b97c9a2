"""Speculative retry: a query is sent to another node if the first is slow."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from shared.cassandra.speculative_retry import with_speculative_retry

SOON = 0.01


class Nodes:
    """Each call is answered by the next of these; `asked` and `cancelled` count the calls."""

    def __init__(self, *answers: Callable[[], Awaitable[str]]) -> None:
        self._answers: Iterator[Callable[[], Awaitable[str]]] = iter(answers)
        self.asked = self.cancelled = 0

    async def __call__(self) -> str:
        self.asked += 1
        try:
            return await next(self._answers)()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def hangs() -> str:
    await asyncio.Event().wait()
    raise AssertionError("this call must be cancelled")


async def answers() -> str:
    return "here"


async def fails() -> str:
    raise OSError("away")


async def test_node_that_answers_gets_the_only_request() -> None:
    nodes = Nodes(answers)
    assert await with_speculative_retry(nodes, pause=SOON, attempts=3) == "here"
    assert (nodes.asked, nodes.cancelled) == (1, 0)


async def test_node_that_hangs_is_retried_elsewhere_and_cancelled() -> None:
    nodes = Nodes(hangs, hangs, answers)
    assert await with_speculative_retry(nodes, pause=SOON, attempts=3) == "here"
    await asyncio.sleep(0)
    assert (nodes.asked, nodes.cancelled) == (3, 2)


async def test_attempts_are_bounded() -> None:
    nodes = Nodes(hangs, hangs)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(with_speculative_retry(nodes, pause=SOON, attempts=2), 20 * SOON)
    await asyncio.sleep(0)
    assert (nodes.asked, nodes.cancelled) == (2, 2)


async def test_error_ends_the_retries() -> None:
    nodes = Nodes(hangs, fails)
    with pytest.raises(OSError, match="away"):
        await with_speculative_retry(nodes, pause=SOON, attempts=3)
    assert nodes.asked == 2
