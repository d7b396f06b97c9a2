"""What must be there before a service starts: topics, keyspace and tables, bucket, and the services' own S3 user."""

import asyncio

from deploy.local import s3
from deploy.local.reporting import Reporter
from deploy.local.state import State
from shared.settings import Settings


async def provision(settings: Settings, state: State, own_s3: bool, reporter: Reporter) -> None:
    """Create or bring in line whatever the services need. Idempotent. Raises ImagepipeError.

    `own_s3`: the S3 server belongs to this stack, so that bucket and user are made with its root credentials; a foreign
    one is asked with the credentials given in the environment.
    """
    from shared.cassandra import apply_schema
    from shared.topics import apply_topics

    with reporter.step("Topics, tables, bucket and the services' S3 user are there"):
        await asyncio.gather(
            apply_topics(settings),
            asyncio.to_thread(apply_schema, settings),
            asyncio.to_thread(_apply_storage, settings, state, own_s3),
        )


def _apply_storage(settings: Settings, state: State, own_s3: bool) -> None:
    from shared.storage import apply_bucket

    if not own_s3:
        apply_bucket(settings)
        return
    apply_bucket(settings, state.secrets.s3_root_key, state.secrets.s3_root_secret)
    s3.apply_services_user(state, settings.s3_bucket)
