"""How long the end of the processor takes."""

import asyncio
from typing import Any

import pytest

from processor import service
from processor.consuming import agent
from processor.consuming.agent import Agent
from processor.consuming.delivery import Delivery
from processor.service import Processor
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import OwnerCleared
from shared.settings import Topic
from tests.support import records
from tests.support.memory.gateway import memory_settings


async def hang(*_: object) -> None:
    await asyncio.Event().wait()


class Hanging:
    """A part of the processor that never ends."""

    crash_reason = None

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    stop = close = hang


class HangingStream(Hanging):
    """The Faust side: its commits hang. It keeps the agent that it feeds."""

    agent: Agent
    joined = True
    commit = check_joined = hang

    def feed(self, agent: Agent) -> None:
        HangingStream.agent = agent


async def test_processor_whose_parts_all_hang_ends_within_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orchestrators kill after 30 s. The waits are added up here, and shortened."""
    waits, wait, commit_seconds = list[float](), asyncio.wait, agent.COMMIT_TIMEOUT_SECONDS

    async def shortened(tasks: Any, **options: Any) -> Any:
        if "timeout" not in options:
            return await wait(tasks, **options)
        waits.append(options["timeout"])
        return await wait(tasks, timeout=0.01)

    for part in ("make_app", "RenderPool", "Producer", "InternalServer"):
        monkeypatch.setattr(service, part, Hanging)
    monkeypatch.setattr(service, "CommandStream", HangingStream)
    monkeypatch.setattr(service, "require_topics", hang)
    monkeypatch.setattr(Delivery, "deliver", hang)
    monkeypatch.setattr(agent, "COMMIT_TIMEOUT_SECONDS", 0.01)
    processor, stop = Processor(memory_settings()), asyncio.Event()
    for offset in range(2):
        fence = encode(OwnerCleared(owner=records.OWNER))
        await HangingStream.agent.accept(ConsumedRecord(Topic.COMMANDS, 0, offset, b"user:1", fence, []))
    monkeypatch.setattr(asyncio, "wait", shortened)
    stop.set()
    await processor.run(stop)
    # A commit may be running, and the last one waits for it.
    assert sum(waits) + 2 * commit_seconds < 30
    assert len(waits) == 5, "lanes, Faust, pool, producer and server"
