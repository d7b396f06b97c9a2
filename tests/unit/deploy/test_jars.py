"""The locked Java archives of the engines."""

import pytest

from deploy.local.engines import jars


@pytest.mark.parametrize("engine", sorted(jars.SOURCES))
def test_lock_file_holds_the_versions_named_in_the_source(engine: str) -> None:
    locked = jars.read_lock(engine)
    assert set(jars.SOURCES[engine]) <= {jar.coordinate for jar in locked}
    assert len({jar.name for jar in locked}) == len(locked)
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in locked)


def test_kafka_has_one_version_of_its_clients() -> None:
    # Resolved together with the log binding, jgo once picked kafka-clients 3.9.1 for a 4.2 broker.
    clients = [jar.coordinate for jar in jars.read_lock("kafka") if ":kafka-clients:" in jar.coordinate]
    assert clients == ["org.apache.kafka:kafka-clients:4.2.0"]
