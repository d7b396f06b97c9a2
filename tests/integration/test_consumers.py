"""The example consumers, and wrong ones, by the conformance kit on real Kafka."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from imagepipe_client.conformance.__main__ import main
from imagepipe_client.conformance.kit import TOPIC, ConsumerFailed, check
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"
TSX = CLIENT / "node_modules" / ".bin" / "tsx"
PYTHON = [sys.executable, "-m"]
CONSUMERS = {
    "aiokafka": [*PYTHON, "client.consumers.aiokafka_table"],
    "faust": [*PYTHON, "client.consumers.faust_table", "worker", "--without-web", "-l", "warn"],
    "node": [str(TSX), str(CLIENT / "consumers" / "served_table.ts")],
}
LAST_RECORD_WINS = """
import asyncio, json
from client.consumers import aiokafka_table
aiokafka_table.versions = type("Forgetful", (dict,), {"get": lambda self, key, default: default})()
asyncio.run(aiokafka_table.main())
"""
COMMITS_BUT_FORGETS = """
import asyncio, json, os
from aiokafka import AIOKafkaConsumer, TopicPartition
from client.consumers.aiokafka_table import handle, served

async def main():
    prefix, servers = os.environ["TOPIC_PREFIX"], os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=prefix + "forgets", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition(prefix + "images.events", number) for number in range(8)])
    async with consumer:
        async for record in consumer:
            if record.value is not None:
                handle(json.loads(record.value))
            await consumer.commit()
            print(json.dumps(served), flush=True)

asyncio.run(main())
"""
LOST = "The table had it before the consumer was killed and started again."


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Faust makes a directory where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("name", CONSUMERS)
def test_an_example_keeps_the_right_table(name: str, engines: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "node" and not (shutil.which("node") and TSX.exists()):
        pytest.skip("Node or its packages are not installed: `npm ci --prefix client`")
    code = main(["--bootstrap-servers", engines.kafka_bootstrap_servers, "--", *CONSUMERS[name]])
    assert (code, capsys.readouterr().out) == (0, "✓ The table is right: 20 cases, 59 records.\n")


def test_a_wrong_command_is_found(engines: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--bootstrap-servers", engines.kafka_bootstrap_servers, "--", sys.executable, "-c", LAST_RECORD_WINS])
    lines = capsys.readouterr().out.splitlines()
    assert (code, [line.partition(" (")[0] for line in lines]) == (
        1, ["✗ late answer", "✗ late first", "✗ large versions, late answer"],
    )  # fmt: skip


def test_a_table_that_does_not_survive_a_restart_is_found(
    engines: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The position is kept and the table is not: what was read before the restart is gone."""
    argv = ["--bootstrap-servers", engines.kafka_bootstrap_servers, "--", sys.executable, "-c", COMMITS_BUT_FORGETS]
    assert main(argv) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {"✗ ready", "✗ last record"} <= {line.partition(" (")[0] for line in lines if line.endswith(LOST)}


async def test_a_function_is_a_consumer_too(engines: Settings) -> None:
    def first_record_wins(bootstrap_servers: str, prefix: str) -> dict[str, Any]:
        return asyncio.run(_first_records(bootstrap_servers, prefix + TOPIC))

    report = await check(first_record_wins, engines.kafka_bootstrap_servers)
    found = {sentence.partition(" (")[0] for sentence in report.differences}
    assert {"replaced", "late answer", "removed"} <= found
    assert "last record" not in found


async def _first_records(bootstrap_servers: str, topic: str) -> dict[str, str]:
    served: dict[str, str] = {}
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer:
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(consumer.assignment())
        while [place for place, end in ends.items() if await consumer.position(place) < end]:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for event in (json.loads(record.value) for record in records if record.value):
                    if "current" in event:
                        served.setdefault(event["image_id"], event["current"]["variants"][0]["url"])
    return served


async def test_a_consumer_that_prints_no_table_has_failed(engines: Settings) -> None:
    with pytest.raises(ConsumerFailed, match="printed no table"):
        await check([sys.executable, "-c", "print('ready')"], engines.kafka_bootstrap_servers, 30)
