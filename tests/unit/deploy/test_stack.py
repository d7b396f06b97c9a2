"""The parts of a local stack, the memory they need, and the shape that its directory keeps."""

from collections import Counter

import pytest

from deploy.local import services, stack
from deploy.local.engines import cassandra, kafka
from deploy.local.errors import StackError
from deploy.local.state import Root, State
from deploy.local.topology import kind_of


def test_given_endpoints_win_and_their_engine_is_not_started(root: Root, state: State) -> None:
    given = {"S3_ENDPOINT_URL": "http://s3:9000", "S3_ACCESS_KEY_ID": "k", "KAFKA_BOOTSTRAP_SERVERS": "k:9092"}
    options = stack.Options(root, None, True, given)
    assert options.engines == ("cassandra",)
    assert [member.kind for member in options.parts] == ["cassandra", *services.NAMES, services.SWEEP]
    values = services.environment(state, given)
    assert (values["S3_ENDPOINT_URL"], values["S3_ACCESS_KEY_ID"]) == ("http://s3:9000", "k")
    assert values["KAFKA_BOOTSTRAP_SERVERS"] == "k:9092"


def options(root: Root, cluster: bool = True, with_services: bool = True) -> stack.Options:
    return stack.Options(root, None, with_services, {}, cluster)


def test_a_cluster_has_three_of_each_engine_and_two_of_each_service(root: Root) -> None:
    counts = Counter(member.kind for member in options(root).parts)
    assert counts == {
        "kafka": 3, "cassandra": 3, "s3": 1, "lifecycle": 1, "gateway": 2, "processor": 2, "indexer": 2, "sweep": 1,
    }  # fmt: skip
    names = [member.name for member in options(root).parts]
    assert names[:3] == ["kafka-1", "kafka-2", "kafka-3"]
    assert len(set(names)) == len(names)
    assert {kind_of(name) for name in names} == set(counts)
    single = [member.name for member in options(root, cluster=False).parts]
    assert single == ["kafka", "cassandra", "s3", "lifecycle", "processor", "indexer", "gateway", "sweep"]


def test_all_parts_of_a_cluster_fit_into_twelve_gigabytes(root: Root) -> None:
    assert stack.needed_memory(options(root, cluster=False)) < stack.needed_memory(options(root)) < 12e9
    engines = options(root, with_services=False)
    heaps = 3 * (kafka.HEAP_MB + cassandra.HEAP_MB) * 1024**2
    assert heaps < stack.needed_memory(engines) < stack.needed_memory(options(root))


@pytest.mark.parametrize(("made", "words"), [(True, "give --cluster again"), (False, "leave --cluster out")])
def test_root_refuses_another_shape(root: Root, made: bool, words: str) -> None:
    root.save(State(cluster=made))
    stack.check_shape(options(root, cluster=made))
    with pytest.raises(StackError, match=f"{words}.*--root.*down --delete-data"):
        stack.check_shape(options(root, cluster=not made))
