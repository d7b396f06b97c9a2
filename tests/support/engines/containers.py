"""Kafka, Cassandra and S3 in containers, for machines with a Docker engine."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from deploy.local.reporting import Reporter

MINIO_IMAGE = "minio/minio:RELEASE.2025-09-07T16-13-09Z"
"""The last published release; testcontainers' default is too old for conditional writes."""


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
        with reporter.step("Kafka, Cassandra and MinIO are up in containers"):
            endpoints = _start(running)
        yield endpoints


def _start(running: ExitStack) -> dict[str, str]:
    from testcontainers.community.cassandra import CassandraContainer
    from testcontainers.community.kafka import KafkaContainer
    from testcontainers.community.minio import MinioContainer

    kafka = running.enter_context(KafkaContainer().with_kraft())
    cassandra = running.enter_context(CassandraContainer("cassandra:5.0"))
    minio = running.enter_context(MinioContainer(MINIO_IMAGE))
    host, port = cassandra.get_contact_points()[0]
    keys = minio.get_config()
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.get_bootstrap_server(),
        "CASSANDRA_CONTACT_POINTS": host,
        "CASSANDRA_PORT": str(port),
        "CASSANDRA_DATACENTER": cassandra.get_local_datacenter(),
        "S3_ENDPOINT_URL": f"http://{keys['endpoint']}",
        "S3_ACCESS_KEY_ID": keys["access_key"],
        "S3_SECRET_ACCESS_KEY": keys["secret_key"],
    }
