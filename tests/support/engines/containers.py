"""Kafka and Cassandra in containers, for machines with a Docker engine."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from deploy.local.reporting import Reporter


def docker_answers() -> bool:
    """Whether a Docker engine can be reached."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=3)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except DockerException:
        return False
    finally:
        client.close()


@contextmanager
def engine_containers(reporter: Reporter, wanted: bool) -> Iterator[dict[str, str]]:
    """Environment variables with the endpoints of new containers; empty without a Docker engine or if not `wanted`."""
    if not wanted or not docker_answers():
        yield {}
        return
    with ExitStack() as running:
        with reporter.step("Kafka and Cassandra are up in containers"):
            endpoints = _start(running)
        yield endpoints


def _start(running: ExitStack) -> dict[str, str]:
    from testcontainers.community.cassandra import CassandraContainer
    from testcontainers.community.kafka import KafkaContainer

    kafka = running.enter_context(KafkaContainer().with_kraft())
    cassandra = running.enter_context(CassandraContainer("cassandra:5.0"))
    host, port = cassandra.get_contact_points()[0]
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.get_bootstrap_server(),
        "CASSANDRA_CONTACT_POINTS": host,
        "CASSANDRA_PORT": str(port),
        "CASSANDRA_DATACENTER": cassandra.get_local_datacenter(),
    }
