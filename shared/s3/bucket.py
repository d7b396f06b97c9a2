"""Creates the bucket and sets its lifecycle: how long incoming objects and tombstones are kept."""

import math
from datetime import timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.contract.keys import INCOMING_PREFIX, TOMBSTONES_PREFIX
from shared.errors import ConfigurationError
from shared.s3.store import MISSING, error_code, s3_client
from shared.security import explain_s3
from shared.settings import Settings


def apply_bucket(settings: Settings, access_key: str | None = None, secret_key: str | None = None) -> None:
    """Create the private bucket, if it does not exist, and set its lifecycle. Idempotent.

    The store deletes incoming objects after a day, and tombstones after `tombstone_retention`. Raises
    ConfigurationError.
    """
    client = s3_client(settings, access_key, secret_key)
    bucket = settings.s3_bucket
    try:
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error_code(error) not in MISSING | {"NoSuchBucket"}:
                raise
            client.create_bucket(Bucket=bucket, **_location(settings.s3_region))
        client.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={
                "Rules": [
                    _expiry("incoming", INCOMING_PREFIX, timedelta(days=1)),
                    _expiry("tombstones", TOMBSTONES_PREFIX, settings.tombstone_retention),
                ]
            },
        )
    except (ClientError, BotoCoreError) as error:
        where = f"bucket {bucket} at {settings.s3_endpoint_url or 'AWS'}"
        raise ConfigurationError(f"{where}: {explain_s3(error)}") from error
    finally:
        client.close()


def _location(region: str) -> Any:
    # AWS requires the region in the request, except for us-east-1, where it must be absent.
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


def _expiry(name: str, prefix: str, after: timedelta) -> Any:
    days = math.ceil(after / timedelta(days=1))
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}
