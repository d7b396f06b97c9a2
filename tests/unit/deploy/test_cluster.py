"""The shape of a cluster, and that its engines are told the same by all, without starting any."""

import errno
import socket
from collections import Counter
from pathlib import Path

import pytest

from deploy.local import ports, services, stack
from deploy.local.engines import cassandra, kafka, s3
from deploy.local.errors import StackError
from deploy.local.state import Root, State
from deploy.local.supervision.logs import LogFile
from deploy.local.topology import Member, hosts, kind_of, members
from ops.commands.logs import log_files

NAMES = [*kafka.PORTS, *cassandra.PORTS, *s3.PORTS, *services.PORTS, "gateway"]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "stack")
    made.create()
    return made


def cluster_state() -> State:
    return State(cluster=True, ports={name: 20_000 + index for index, name in enumerate(NAMES)})


def options(root: Root, cluster: bool = True, with_services: bool = True) -> stack.Options:
    return stack.Options(root, None, with_services, {}, cluster)


def properties(state: State, member: Member, log: Path) -> dict[str, str]:
    lines = kafka.render_properties(state, member, log).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_a_cluster_has_three_of_each_engine_and_two_of_each_service(root: Root) -> None:
    counts = Counter(member.kind for member in options(root).parts)
    assert counts == {
        "kafka": 3, "cassandra": 3, "s3": 1, "gateway": 2, "processor": 2, "indexer": 2, "sweep": 1,
    }  # fmt: skip
    names = [member.name for member in options(root).parts]
    assert names[:3] == ["kafka-1", "kafka-2", "kafka-3"]
    assert len(set(names)) == len(names)
    assert {kind_of(name) for name in names} == set(counts)
    single = [member.name for member in options(root, cluster=False).parts]
    assert single == ["kafka", "cassandra", "s3", "processor", "indexer", "gateway", "sweep"]


def test_all_parts_of_a_cluster_fit_into_twelve_gigabytes(root: Root) -> None:
    assert stack.needed_memory(options(root, cluster=False)) < stack.needed_memory(options(root)) < 12e9
    engines = options(root, with_services=False)
    heaps = 3 * (kafka.HEAP_MB + cassandra.HEAP_MB) * 1024**2
    assert heaps < stack.needed_memory(engines) < stack.needed_memory(options(root))


def test_brokers_know_each_other_and_keep_three_copies(tmp_path: Path) -> None:
    state = cluster_state()
    brokers = [properties(state, member, tmp_path / member.name) for member in members(kafka.NAME, True)]
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


def test_one_broker_keeps_one_copy(tmp_path: Path) -> None:
    broker = properties(State(ports=cluster_state().ports), Member(kafka.NAME, 1, 1), tmp_path)
    assert broker["controller.quorum.voters"] == "1@127.0.0.1:20001"
    assert {value for name, value in broker.items() if name.endswith(("factor", "min.isr", "insync.replicas"))} == {"1"}


def test_nodes_share_the_ring_and_are_all_seeds(tmp_path: Path) -> None:
    state = cluster_state()
    nodes = members(cassandra.NAME, True)
    tokens = sorted(cassandra.token(node) for node in nodes)
    assert all(-(2**63) <= token < 2**63 for token in tokens)
    gaps = {later - earlier for earlier, later in zip(tokens, [*tokens[1:], tokens[0] + 2**64], strict=True)}
    assert max(gaps) - min(gaps) <= 1
    assert cassandra.token(Member(cassandra.NAME, 1, 1)) == 0
    for node in nodes:
        settings = cassandra.configuration(state, node, tmp_path / node.name)
        assert settings["listen_address"] == settings["rpc_address"] == node.host
        assert settings["seed_provider"] == [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": "127.0.0.1:20003,127.0.0.2:20003,127.0.0.3:20003"}],
            }
        ]
        assert (settings["auto_bootstrap"], settings["num_tokens"]) == (False, 1)


def test_services_of_a_cluster_ask_for_three_copies() -> None:
    state = cluster_state()
    values = services.environment(state, {"TOPIC_REPLICATION_FACTOR": "1"})
    settings = services.settings_from(values)
    assert settings.kafka_bootstrap_servers == "127.0.0.1:20000,127.0.0.2:20000,127.0.0.3:20000"
    assert (settings.topic_replication_factor, settings.topic_min_insync_replicas) == (3, 2)
    assert settings.cassandra_contact_points == ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    assert settings.cassandra_replication_factor == 3
    second = services.part(members("gateway", True)[1], state, values)
    port = state.ports["gateway"]
    assert (second.name, second.url) == ("gateway-2", f"http://127.0.0.2:{port}")
    assert (second.env["GATEWAY_HOST"], second.env["INTERNAL_HOST"]) == ("127.0.0.2", "127.0.0.2")
    assert second.ready_url.startswith("http://127.0.0.2:")


@pytest.mark.parametrize(("made", "words"), [(True, "say --cluster again"), (False, "leave --cluster out")])
def test_a_root_keeps_its_shape(root: Root, made: bool, words: str) -> None:
    root.save(State(cluster=made))
    stack.check_shape(options(root, cluster=made))
    with pytest.raises(StackError, match=f"{words}.*--root.*down --delete-data"):
        stack.check_shape(options(root, cluster=not made))


def test_a_port_must_be_free_on_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def is_free(host: str, _port: int) -> bool:
        asked.append(host)
        return host != "127.0.0.3"

    monkeypatch.setattr(ports, "_is_free", is_free)
    assert not ports.is_free(20_000, hosts(cluster=True))
    assert asked == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert ports.is_free(20_000, hosts(cluster=False))


def test_a_missing_loopback_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(_socket: socket.socket, address: tuple[str, int]) -> None:
        if address[0] != ports.LOOPBACK:
            raise OSError(errno.EADDRNOTAVAIL, "Can't assign requested address")

    monkeypatch.setattr(socket.socket, "bind", bind, raising=False)
    ports.check_addresses(hosts(cluster=False))
    with pytest.raises(StackError, match=r"no address 127\.0\.0\.2.*ifconfig lo0 alias 127\.0\.0\.2.*--cluster"):
        ports.check_addresses(hosts(cluster=True))


def test_logs_of_a_kind_are_those_of_all_its_parts(root: Root) -> None:
    for name in ("kafka-1", "kafka-2", "gateway-1", "supervisor"):
        log = LogFile(root.logs / f"{name}.log")
        log.write("line")
        log.close()
    assert list(log_files(root, "kafka")) == ["kafka-1", "kafka-2"]
    assert list(log_files(root, "kafka-2")) == ["kafka-2"]
    with pytest.raises(StackError, match=r"there are .*kafka-1"):
        log_files(root, "kafka-3")
