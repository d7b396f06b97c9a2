"""What `imagepipe` reports about a running cluster, and how much memory the cluster uses."""

import json
import subprocess
import sys

import pytest

from deploy.local.supervision import process
from shared.cassandra.session import connect
from shared.kafka.topics import topic_specs
from tests.support.engines.replicas import wait_whole
from tests.support.engines.stack import Stack

MOST_MEMORY = 12e9


def imagepipe(stack: Stack, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ops.cli", *argv, "--root", str(stack.root.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_status_shows_every_part(stack: Stack) -> None:
    answer = imagepipe(stack, "status", "--json")
    assert answer.returncode == 0, answer.stdout
    document = json.loads(answer.stdout)
    parts = {part["name"]: part for part in document["parts"]}
    engines = [f"{kind}-{number}" for kind in ("kafka", "cassandra") for number in (1, 2, 3)]
    pairs = [f"{kind}-{number}" for kind in ("gateway", "processor", "indexer") for number in (1, 2)]
    assert sorted(parts) == sorted([*engines, *pairs, "s3", "lifecycle", "sweep"])
    assert {part["state"] for part in parts.values()} == {"ready"}
    assert parts["gateway-2"]["url"].startswith("http://127.0.0.2:")
    assert isinstance(document["lag"], list)


def test_logs_of_one_node_and_of_all(stack: Stack) -> None:
    assert "cassandra-2 " in imagepipe(stack, "logs", "cassandra-2", "-n", "1").stdout
    said = imagepipe(stack, "logs", "kafka", "-n", "1").stdout
    assert all(f"kafka-{number} " in said for number in (1, 2, 3))


def test_up_without_cluster_is_refused(stack: Stack) -> None:
    answer = imagepipe(stack, "up", "--detach")
    assert answer.returncode == 1
    assert "say --cluster again" in " ".join(answer.stderr.split())
    assert "runs already" in imagepipe(stack, "up", "--detach", "--cluster").stdout


async def test_three_copies_of_everything_two_for_an_ack(stack: Stack) -> None:
    settings = stack.settings
    assert {spec.replication_factor for spec in topic_specs(settings)} == {3}
    described = imagepipe(stack, "topics", "describe", "--json")
    assert described.returncode == 0, described.stderr
    wait_whole(settings)
    session = connect(settings)
    try:
        query = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s"
        replication = dict(session.execute(query, [settings.cassandra_keyspace]).one().replication)
    finally:
        session.cluster.shutdown()
    assert replication.pop("class").endswith("NetworkTopologyStrategy")
    assert replication == {settings.cassandra_datacenter: "3"}


@pytest.mark.skipif(sys.platform != "linux", reason="proportional set size is Linux's")
def test_all_processes_fit_into_twelve_gigabytes(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    processes = [*process.leftovers(stack.state().stack_id), process.find(stack.state().supervisor)]
    found = [each.memory_full_info() for each in processes if each is not None]
    resident, proportional = sum(each.rss for each in found), sum(each.pss for each in found)
    with capsys.disabled():
        print(f"\n{len(found)} processes: {resident / 1e9:.2f} GB resident, {proportional / 1e9:.2f} GB proportional")
    assert len(found) > len(stack.state().parts), "the processors' render workers belong to it"
    assert resident < MOST_MEMORY
