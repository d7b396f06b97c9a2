"""What must be there before a service starts: topics, keyspace and tables, bucket, and the services' own S3 user."""

import asyncio
from datetime import timedelta

from deploy.local.engines import s3
from deploy.local.reporting import Reporter
from deploy.local.state import State
from shared.retry import retry_unavailable
from shared.settings import Settings

SCHEMA_RETRY_LIMIT = timedelta(seconds=60)
"""After this time Cassandra's refusal to make tables is final."""


async def provision(settings: Settings, state: State, own_s3: bool, reporter: Reporter) -> None:
    """Create or bring in line whatever the services need. Idempotent. Raises ImagepipeError.

    `own_s3`: the S3 server belongs to this stack, so that bucket and user are made with its root credentials; a foreign
    one is asked with the credentials given in the environment.
    """
    from shared.kafka.topics import apply_topics

    with reporter.step("Topics, tables, bucket and the services' S3 user are there"):
        await asyncio.gather(
            apply_topics(settings),
            _apply_schema(settings),
            asyncio.to_thread(_apply_storage, settings, state, own_s3),
        )


async def _apply_schema(settings: Settings) -> None:
    from shared.cassandra.schema import apply_schema

    # A node that has just started on a busy disk times out at first; every statement may be repeated.
    await retry_unavailable(lambda: asyncio.to_thread(apply_schema, settings), SCHEMA_RETRY_LIMIT)


def _apply_storage(settings: Settings, state: State, own_s3: bool) -> None:
    from shared.s3.bucket import apply_bucket

    if not own_s3:
        apply_bucket(settings)
        return
    apply_bucket(settings, state.secrets.s3_root_key, state.secrets.s3_root_secret)
    s3.apply_services_user(state, settings.s3_bucket)
