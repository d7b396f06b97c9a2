"""Topics, a keyspace and a bucket for one test or benchmark on running engines, removed at its end."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from cassandra.cluster import Cluster

from shared.cassandra.schema import apply_schema
from shared.kafka.topics import apply_topics, topic_specs
from shared.s3.bucket import apply_bucket
from shared.s3.store import s3_client
from shared.settings import Settings

PATIENT = timedelta(seconds=30)
"""Time-out of Cassandra's queries in tests that are not about time: a shared machine may stand still for seconds."""


def unique_names() -> dict[str, str]:
    """Names that no other run on the same engines uses."""
    run = secrets.token_hex(4)
    return {"TOPIC_PREFIX": f"t{run}.", "CASSANDRA_KEYSPACE": f"t{run}", "S3_BUCKET": f"imagepipe-t{run}"}


@contextmanager
def isolated(
    admin: Settings, *, topics: bool = False, keyspace: bool = False, bucket: bool = False, **changes: Any
) -> Iterator[Settings]:
    """Settings with a topic prefix, a keyspace or a bucket of their own, made now and removed at the end.

    `changes` are further fields of the settings, for example `topic_partitions=4`.
    """
    names = {name.lower(): value for name, value in unique_names().items()}
    settings = admin.model_copy(update=names | changes)
    parts = [part for part, wanted in ((_TOPICS, topics), (_KEYSPACE, keyspace), (_BUCKET, bucket)) if wanted]
    try:
        _at_once([partial(part.make, settings) for part in parts])
        yield settings
    finally:
        _at_once([partial(part.drop, settings) for part in parts])


def _at_once(calls: Sequence[Callable[[], object]]) -> None:
    """Make these calls at the same time, each in a thread, because each waits for another engine."""
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


def isolated_deployment(admin: Settings, **changes: Any) -> AbstractContextManager[Settings]:
    """Settings of a deployment without services, as `isolated` makes them, with a long time-out for Cassandra."""
    return isolated(admin, topics=True, keyspace=True, bucket=True, cassandra_timeout=PATIENT, **changes)


def in_own_loop(make: Callable[[], Any]) -> Any:
    """Run a coroutine to its end; the calling code may itself run inside an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


def _make_topics(settings: Settings) -> None:
    asyncio.run(apply_topics(settings))


def _drop_topics(settings: Settings) -> None:
    asyncio.run(_delete_topics(settings))


async def _delete_topics(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    try:
        await admin.start()
        await admin.delete_topics([spec.name for spec in topic_specs(settings)])
    finally:
        await admin.close()


def _drop_keyspaces(settings: Settings) -> None:
    """Drop the keyspace, and those that a test has rebuilt beside it under names that begin with its name and `_`."""
    own = settings.cassandra_keyspace
    cluster = Cluster(list(settings.cassandra_contact_points), port=settings.cassandra_port)
    try:
        session = cluster.connect()
        for row in session.execute("SELECT keyspace_name FROM system_schema.keyspaces"):
            if row.keyspace_name == own or row.keyspace_name.startswith(f"{own}_"):
                session.execute(f"DROP KEYSPACE IF EXISTS {row.keyspace_name}", timeout=30)
    finally:
        cluster.shutdown()


def _drop_bucket(settings: Settings) -> None:
    client = s3_client(settings)
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket):
            if found := page.get("Contents"):
                keys = [entry["Key"] for entry in found]
                client.delete_objects(Bucket=settings.s3_bucket, Delete={"Objects": [{"Key": key} for key in keys]})
        client.delete_bucket(Bucket=settings.s3_bucket)
    finally:
        client.close()


@dataclass(frozen=True)
class _Part:
    """What a deployment has on one engine."""

    make: Callable[[Settings], object]
    drop: Callable[[Settings], None]


_TOPICS = _Part(_make_topics, _drop_topics)
_KEYSPACE = _Part(apply_schema, _drop_keyspaces)
_BUCKET = _Part(apply_bucket, _drop_bucket)
