"""`imagepipe init`: create topics, tables and bucket. Run it before the services start, at least once for a release."""

import asyncio

import typer

from ops.connections import run
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot
from ops.terminal.output import Output
from shared.cassandra.schema import apply_schema
from shared.errors import ConfigurationError
from shared.kafka.topics import apply_topics
from shared.s3.bucket import apply_bucket
from shared.settings import Settings


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("init")(command)


def command(root: DeploymentRoot = None, as_json: AsJson = False) -> None:
    """Create or update topics, keyspace, tables and bucket. It asks no question and can be repeated."""
    settings = load_settings(root)
    migrations = run(init(settings))
    bucket = settings.s3_bucket if settings.s3_manage_bucket else None
    Output(as_json).document(
        {"keyspace": settings.cassandra_keyspace, "migrations": migrations, "bucket": bucket},
        [
            "The topics are up to date.",
            f"Keyspace {settings.cassandra_keyspace}: {len(migrations)} migrations were run.",
            f"Bucket {bucket} is up to date." if bucket else "The bucket was not changed (S3_MANAGE_BUCKET).",
        ],
    )


async def init(settings: Settings) -> list[str]:
    """Create or update topics, schema and bucket; returns the names of the migrations that were run. Idempotent.

    Raises ConfigurationError, Unavailable. Finished steps are kept, and the next call continues.
    """
    await apply_topics(settings)
    migrations = await asyncio.to_thread(apply_schema, settings)
    if settings.s3_manage_bucket:
        await asyncio.to_thread(_apply_bucket, settings)
    return migrations


def _apply_bucket(settings: Settings) -> None:
    secret = settings.s3_admin_secret_access_key
    try:
        apply_bucket(settings, settings.s3_admin_access_key_id, secret.get_secret_value() if secret else None)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error} The access key of the services may lack the right to create a bucket: set S3_ADMIN_ACCESS_KEY_ID "
            "and S3_ADMIN_SECRET_ACCESS_KEY, or S3_MANAGE_BUCKET=false if another tool creates the bucket."
        ) from error
