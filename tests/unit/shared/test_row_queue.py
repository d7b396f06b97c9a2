"""Rows that wait share a request, and an error of one row is not that of another."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.query import BoundStatement

from shared.cassandra.row_queue import RowQueue

AT_ONCE = 2


def row(name: str, partition: int = 1) -> tuple[tuple[Any, ...], Sequence[BoundStatement]]:
    """A row of one statement, which has its name as its value."""
    return ("table", partition), [cast(BoundStatement, SimpleNamespace(values=[name.encode()]))]


class Sent:
    """Requests that were sent, each answered when its event is set. `errors` has the error of each row that has one."""

    def __init__(self, **errors: Exception) -> None:
        self.requests: list[list[str]] = []
        self.answer = asyncio.Event()
        self.errors = errors

    async def __call__(self, statements: Sequence[BoundStatement]) -> None:
        names = [statement.values[0].decode() for statement in statements]
        self.requests.append(names)
        await self.answer.wait()
        for name in names:
            if name in self.errors:
                raise self.errors[name]


async def writing(queue: RowQueue, *names: str) -> list[asyncio.Task[None]]:
    """Tasks that each write one row, once all have started."""
    tasks = [asyncio.create_task(queue.write([row(name)])) for name in names]
    await asyncio.sleep(0.01)
    return tasks


async def test_rows_are_sent_at_once_until_the_bound_and_then_share_the_next_request() -> None:
    sent = Sent()
    tasks = await writing(RowQueue(sent, AT_ONCE), *"abcde")
    assert sent.requests == [["a"], ["b"]]
    sent.answer.set()
    await asyncio.gather(*tasks)
    assert sent.requests == [["a"], ["b"], ["c", "d", "e"]]


async def test_rows_of_one_call_share_a_request_at_once() -> None:
    sent = Sent()
    sent.answer.set()
    await RowQueue(sent, AT_ONCE).write([row("a", 1), row("b", 2), row("c", 3)])
    assert sent.requests == [["a", "b", "c"]]


async def test_a_row_that_cassandra_refuses_does_not_refuse_the_others() -> None:
    sent = Sent(d=InvalidRequest("d is out of bounds"))
    tasks = await writing(RowQueue(sent, AT_ONCE), *"abcde")
    sent.answer.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes == [None, None, None, sent.errors["d"], None]
    assert sent.requests[2:] == [["c", "d", "e"], ["c"], ["d"], ["e"]]


async def test_an_outage_is_the_error_of_every_row_of_the_request_and_of_no_later_one() -> None:
    sent = Sent(c=OperationTimedOut())
    queue = RowQueue(sent, AT_ONCE)
    tasks = await writing(queue, *"abcde")
    sent.answer.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes == [None, None, *[sent.errors["c"]] * 3]
    await queue.write([row("f")])
    assert sent.requests[2:] == [["c", "d", "e"], ["f"]]


async def test_rows_of_a_cancelled_call_are_not_sent() -> None:
    sent = Sent()
    queue = RowQueue(sent, AT_ONCE)
    tasks = await writing(queue, *"abcd")
    for task in tasks[:3]:
        task.cancel()
    sent.answer.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3 + [type(None)]
    assert sent.requests == [["a"], ["b"], ["d"]]


async def test_an_error_of_a_call_drops_its_rows_that_wait() -> None:
    sent = Sent(a=OperationTimedOut())
    queue = RowQueue(sent, 1)
    task = asyncio.create_task(queue.write([row("a" * 1), *(row(f"row {number}", 2) for number in range(200))]))
    await asyncio.sleep(0.01)
    sent.answer.set()
    with pytest.raises(OperationTimedOut):
        await task
    await asyncio.sleep(0.01)
    assert sum(map(len, sent.requests)) < 200
