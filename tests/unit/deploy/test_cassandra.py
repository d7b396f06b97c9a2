"""The configuration of the local stack's Cassandra nodes."""

from pathlib import Path

from deploy.local.engines import cassandra
from deploy.local.state import State
from deploy.local.topology import Member, members


def test_cassandra_syncs_before_it_acknowledges(state: State, tmp_path: Path) -> None:
    settings = cassandra.configuration(state, Member(cassandra.NAME, 1, 1), tmp_path)
    assert settings["commitlog_sync"] == "batch"
    assert settings["listen_address"] == "127.0.0.1"


def test_nodes_share_the_ring_and_are_all_seeds(cluster: State, tmp_path: Path) -> None:
    nodes = members(cassandra.NAME, True)
    tokens = sorted(cassandra.token(node) for node in nodes)
    assert all(-(2**63) <= token < 2**63 for token in tokens)
    gaps = {later - earlier for earlier, later in zip(tokens, [*tokens[1:], tokens[0] + 2**64], strict=True)}
    assert max(gaps) - min(gaps) <= 1
    assert cassandra.token(Member(cassandra.NAME, 1, 1)) == 0
    for node in nodes:
        settings = cassandra.configuration(cluster, node, tmp_path / node.name)
        assert settings["listen_address"] == settings["rpc_address"] == node.host
        assert settings["seed_provider"] == [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": "127.0.0.1:20003,127.0.0.2:20003,127.0.0.3:20003"}],
            }
        ]
        assert (settings["auto_bootstrap"], settings["num_tokens"]) == (False, 1)
