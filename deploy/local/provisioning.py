"""What must be there before a service starts: topics, keyspace and tables, and the bucket."""

import asyncio
from datetime import timedelta
from pathlib import Path

from deploy.local.engines import s3
from deploy.local.reporting import Reporter
from deploy.local.state import Root, State
from shared.retry import retry_unavailable
from shared.settings import Settings

SCHEMA_RETRY_LIMIT = timedelta(seconds=60)
"""After this time Cassandra's refusal to make tables is final."""


async def provision(settings: Settings, root: Root, state: State, own_s3: Path | None, reporter: Reporter) -> None:
    """Create or bring in line whatever the services need. Idempotent. Raises ImagepipeError.

    `own_s3`: the program of the S3 server where it belongs to this stack, so that the bucket is made with its root
    credentials. Another server is asked with the credentials given in the environment.
    """
    from shared.kafka.topics import apply_topics

    with reporter.step("Topics, tables and bucket are there"):
        await asyncio.gather(
            apply_topics(settings),
            apply_schema_with_retries(settings),
            asyncio.to_thread(_apply_storage, settings, root, state, own_s3),
        )


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
