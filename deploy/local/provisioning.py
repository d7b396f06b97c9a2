"""What must be there before a service starts: topics, keyspace and tables, and the bucket."""

import asyncio
from datetime import timedelta
from pathlib import Path

from deploy.local.engines import cassandra, kafka, s3
from deploy.local.state import Root, State
from shared.retry import retry_unavailable
from shared.settings import Settings

SCHEMA_RETRY_LIMIT = timedelta(seconds=60)
"""After this time the start fails if Cassandra still refuses to make tables."""


async def provision(engine: str, settings: Settings, root: Root, state: State, own_s3: Path | None) -> None:
    """Create what the services need of an engine, or bring it in line. Idempotent. Raises ImagepipeError.

    `own_s3`: the program of the S3 server where it belongs to this stack, so that the bucket is made with its root
    credentials. Another server is asked with the credentials given in the environment.
    """
    match engine:
        case kafka.NAME:
            await _apply_topics(settings)
        case cassandra.NAME:
            await apply_schema_with_retries(settings)
        case s3.NAME:
            await asyncio.to_thread(_apply_storage, settings, root, state, own_s3)


async def _apply_topics(settings: Settings) -> None:
    from shared.kafka.topics import apply_topics

    await apply_topics(settings)


async def apply_schema_with_retries(settings: Settings) -> None:
    """Apply the schema, and again while Cassandra is unavailable, for SCHEMA_RETRY_LIMIT. Raises Unavailable."""
    from shared.cassandra.schema import apply_schema

    # A node that has just started on a busy disk times out at first; every statement may be repeated.
    await retry_unavailable(lambda: asyncio.to_thread(apply_schema, settings), SCHEMA_RETRY_LIMIT)


def _apply_storage(settings: Settings, root: Root, state: State, own_s3: Path | None) -> None:
    from shared.s3.bucket import apply_bucket

    if own_s3 is None:
        apply_bucket(settings)
        return
    s3.sync_each_put(root, state, own_s3)
    apply_bucket(settings, state.secrets.s3_root_key, state.secrets.s3_root_secret)
