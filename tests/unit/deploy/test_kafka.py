"""The configuration of the local stack's Kafka brokers."""

from pathlib import Path

from deploy.local.engines import kafka
from deploy.local.state import State
from deploy.local.topology import Member, members


def test_kafka_never_creates_topics_by_itself(state: State, tmp_path: Path) -> None:
    text = kafka.render_properties(state, Member(kafka.NAME, 1, 1), tmp_path)
    assert "auto.create.topics.enable=false\n" in text
    assert "listeners=PLAINTEXT://127.0.0.1:20000,CONTROLLER://127.0.0.1:20001\n" in text


def properties(state: State, member: Member, log: Path) -> dict[str, str]:
    lines = kafka.render_properties(state, member, log).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_brokers_know_each_other_and_keep_three_copies(cluster: State, tmp_path: Path) -> None:
    brokers = [properties(cluster, member, tmp_path / member.name) for member in members(kafka.NAME, True)]
    assert [broker["node.id"] for broker in brokers] == ["1", "2", "3"]
    assert {broker["controller.quorum.voters"] for broker in brokers} == {
        "1@127.0.0.1:20001,2@127.0.0.2:20001,3@127.0.0.3:20001"
    }
    assert brokers[1]["listeners"] == "PLAINTEXT://127.0.0.2:20000,CONTROLLER://127.0.0.2:20001"
    assert brokers[1]["advertised.listeners"] == "PLAINTEXT://127.0.0.2:20000"
    assert len({broker["log.dirs"] for broker in brokers}) == 3
    for broker in brokers:
        replicas = {value for name, value in broker.items() if name.endswith("replication.factor")}
        in_sync = {value for name, value in broker.items() if name.endswith(("min.isr", "min.insync.replicas"))}
        assert (replicas, in_sync) == ({"3"}, {"2"})
        assert broker["auto.create.topics.enable"] == "false"


def test_one_broker_keeps_one_copy(state: State, tmp_path: Path) -> None:
    broker = properties(state, Member(kafka.NAME, 1, 1), tmp_path)
    assert broker["controller.quorum.voters"] == "1@127.0.0.1:20001"
    assert {value for name, value in broker.items() if name.endswith(("factor", "min.isr", "insync.replicas"))} == {"1"}
