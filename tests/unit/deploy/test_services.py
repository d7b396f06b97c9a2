"""The environment in which a local stack runs its services."""

import pytest

from deploy.local import services
from deploy.local.state import State
from deploy.local.topology import members
from shared.contract.ladder import Ladder
from shared.settings import Settings


async def _at_once() -> None:
    return None


def test_services_get_this_stacks_engines_and_the_users_other_settings(state: State) -> None:
    values = services.environment(
        state, {"STS_ROLE_ARN": "arn:other", "RENDER_WORKERS": "3", "GATEWAY_PORT": "1", "HOME": "/x"}
    )
    settings = services.settings_from(values)
    assert settings.render_workers == 3
    assert settings.gateway_port == state.ports["gateway"]
    assert settings.s3_access_key_id == state.secrets.s3_services_key
    # The local S3 server knows one role.
    assert settings.sts_role_arn == Settings.model_fields["sts_role_arn"].default
    assert settings.public_base_url == f"http://127.0.0.1:{state.ports['gateway']}"
    assert "HOME" not in values


@pytest.mark.parametrize(
    ("value", "ladder"), [("", Ladder()), ("fast", Ladder(method=2)), ('{"method": 6}', Ladder(method=6))]
)
def test_the_ladder_of_the_user_is_the_one_of_the_services(value: str, ladder: Ladder, state: State) -> None:
    assert services.settings_from(services.environment(state, {"LADDER": value})).ladder == ladder


def test_services_of_a_cluster_ask_for_three_copies(cluster: State) -> None:
    values = services.environment(cluster, {"TOPIC_REPLICATION_FACTOR": "1"})
    settings = services.settings_from(values)
    assert settings.kafka_bootstrap_servers == "127.0.0.1:20000,127.0.0.2:20000,127.0.0.3:20000"
    assert (settings.topic_replication_factor, settings.topic_min_insync_replicas) == (3, 2)
    assert settings.cassandra_contact_points == ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    assert settings.cassandra_replication_factor == 3
    second = services.part(members("gateway", True)[1], cluster, values, _at_once)
    port = cluster.ports["gateway"]
    assert (second.name, second.url) == ("gateway-2", f"http://127.0.0.2:{port}")
    assert (second.env["GATEWAY_HOST"], second.env["INTERNAL_HOST"]) == ("127.0.0.2", "127.0.0.2")
    assert second.ready_url.startswith("http://127.0.0.2:")
