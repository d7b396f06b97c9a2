"""A producer connects once for all concurrent writes, and no write waits longer than its time-out."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from shared.errors import RecordTooLarge, Unavailable, UnknownOutcome
from shared.kafka import producer as kafka
from shared.kafka.producer import Producer
from shared.ports import Appended
from shared.settings import Settings
from tests.support.waiting import Stopwatch, within

TOGETHER = 5
SEND_TIMEOUT = 1.0
SETTINGS = Settings(_env_file=None, kafka_send_timeout=timedelta(seconds=SEND_TIMEOUT))


class Answer:
    partition, offset, timestamp_type = 0, 7, kafka.LOG_APPEND_TIME


class Client:
    """An aiokafka producer that connects when `there` is set; `made` lists all instances."""

    made: list["Client"]
    there: asyncio.Event
    failures: list[Exception]

    def __init__(self, **_: Any) -> None:
        self.made.append(self)
        self.stopped = False

    async def start(self) -> None:
        await self.there.wait()
        if self.failures:
            raise self.failures.pop()

    async def send(self, *_: Any, **__: Any) -> "asyncio.Future[Any]":
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result(Answer())
        return answer

    async def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    async def explain(_: Settings) -> str:
        return "no reason"

    monkeypatch.setattr(Client, "made", [], raising=False)
    monkeypatch.setattr(Client, "there", asyncio.Event(), raising=False)
    monkeypatch.setattr(Client, "failures", [], raising=False)
    monkeypatch.setattr(kafka, "AIOKafkaProducer", Client)
    monkeypatch.setattr(kafka, "explain_kafka", explain)
    return Client


async def send(producer: Producer) -> Appended:
    return await producer.send("t", b"v", key=None, headers=[])


async def sending(producer: Producer) -> list[asyncio.Task[Appended]]:
    """Many writes that wait for the connection."""
    tasks = [asyncio.create_task(send(producer)) for _ in range(TOGETHER)]
    await asyncio.sleep(0.05)
    return tasks


async def test_every_write_fails_in_time_without_a_connection(client: type[Client]) -> None:
    producer = Producer(SETTINGS)
    watch = Stopwatch()
    outcomes = await asyncio.gather(*(send(producer) for _ in range(TOGETHER)), return_exceptions=True)
    assert watch.seconds() < SEND_TIMEOUT + 1
    # Nothing was sent.
    assert [type(each) for each in outcomes] == [Unavailable] * TOGETHER


async def test_concurrent_writes_share_one_connection(client: type[Client]) -> None:
    producer = Producer(SETTINGS)
    tasks = await sending(producer)
    client.there.set()
    assert await asyncio.gather(*tasks) == [Appended(0, 7)] * TOGETHER
    assert await send(producer) == Appended(0, 7)
    assert len(client.made) == 1


async def test_cancelled_write_does_not_cancel_the_shared_connection(client: type[Client]) -> None:
    producer = Producer(SETTINGS)
    first, *others = await sending(producer)
    first.cancel()
    await asyncio.wait({first})
    client.there.set()
    assert await asyncio.gather(*others) == [Appended(0, 7)] * len(others)
    assert first.cancelled()
    assert len(client.made) == 1


async def test_failed_connection_fails_every_waiting_write_and_is_not_cached(client: type[Client]) -> None:
    producer = Producer(SETTINGS)
    client.failures.append(OSError("refused"))
    tasks = await sending(producer)
    client.there.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(each) for each in outcomes] == ["kafka: cannot connect: OSError('refused'); no reason"] * TOGETHER
    assert await send(producer) == Appended(0, 7)
    assert [made.stopped for made in client.made] == [True, False]


@pytest.mark.filterwarnings("error")
async def test_failed_connection_without_waiting_writes_logs_nothing(client: type[Client]) -> None:
    producer = Producer(SETTINGS)
    client.failures.append(OSError("refused"))
    tasks = await sending(producer)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    client.there.set()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    assert await send(producer) == Appended(0, 7)


async def test_record_above_the_limit_of_the_client_is_too_large_and_keeps_the_connection(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> "asyncio.Future[Any]":
        raise MessageSizeTooLargeError("3000000 bytes")

    client.there.set()
    producer = Producer(SETTINGS)
    with monkeypatch.context() as patched:
        patched.setattr(client, "send", refuse)
        with pytest.raises(RecordTooLarge, match="3000000 bytes"):
            await send(producer)
    assert await send(producer) == Appended(0, 7)
    assert len(client.made) == 1


@pytest.mark.parametrize("connected", [False, True], ids=["while it connects", "as it has connected"])
async def test_close_leaves_no_connection(client: type[Client], connected: bool) -> None:
    producer = Producer(SETTINGS)
    tasks = await sending(producer)
    if connected:
        client.there.set()
    await producer.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(each) for each in outcomes] == ["kafka: closed while connecting"] * TOGETHER
    assert [made.stopped for made in client.made] == [True]


async def test_slow_connection_leaves_the_write_the_rest_of_its_time(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(client, "send", never)
    producer = Producer(SETTINGS)
    watch = Stopwatch()
    task = asyncio.create_task(send(producer))
    await asyncio.sleep(0.6 * SEND_TIMEOUT)
    client.there.set()
    with pytest.raises(UnknownOutcome, match="no ack"):
        await task
    assert watch.seconds() < 1.5 * SEND_TIMEOUT


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_ack_without_an_offset_has_none(
    client: type[Client], monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    """A broker that has seen the batch before acks it without an offset, and aiokafka counts its records from -1.

    The first record of the batch gets -1, and the next one a 0 that looks like an offset.
    """
    monkeypatch.setattr(Answer, "offset", position - 1)
    monkeypatch.setattr(Answer, "timestamp_type", kafka.LOG_APPEND_TIME - 1)
    client.there.set()
    assert await Producer(SETTINGS).send("t", b"1", key=None, headers=[]) == Appended(0, None)


@pytest.mark.parametrize("hangs", ["stop", "disconnect"])
async def test_close_ends_beside_a_hanging_broker(
    client: type[Client], monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    """A flush that does not end is given up, and so is a disconnection."""
    ended = []

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    async def disconnect() -> None:
        ended.append(True)
        if hangs == "disconnect":
            await never()

    # aiokafka's own names: there is no public way to end a producer that cannot flush.
    monkeypatch.setattr(client, "stop", never)
    monkeypatch.setattr(client, "_sender", SimpleNamespace(close=disconnect), raising=False)
    monkeypatch.setattr(client, "client", SimpleNamespace(close=disconnect), raising=False)
    monkeypatch.setattr(kafka, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(kafka, "DISCONNECT_SECONDS", 0.01)
    client.there.set()
    producer = Producer(SETTINGS)
    await producer.start()
    async with within(10):
        await producer.close()
    assert len(ended) == 2
