"""Issues temporary keys: STS sessions whose only permission is to put objects under the prefix of an owner."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import boto3
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError

from gateway.http.problems import Problem
from shared.contract.keys import Owner, incoming_prefix
from shared.errors import Unavailable
from shared.s3.store import boto_config, error_code
from shared.security import s3_verify
from shared.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

SESSION_NAME = "imagepipe-upload"
THREADS = 4
"""Concurrent STS calls of one process. They have their own threads, so that a slow server delays no other work."""
REFUSALS = frozenset({"ValidationError", "InvalidParameterValue", "PackedPolicyTooLarge", "STSInvalidParameterValue"})
"""Error codes that STS servers return for a duration that they do not allow."""


@dataclass(frozen=True)
class TemporaryKeys:
    """Keys with which a client signs its requests to the store until `expiration`."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: datetime


class KeyIssuer(Protocol):
    """Issues temporary keys."""

    async def issue(self, owner: Owner, duration: timedelta) -> TemporaryKeys:
        """Keys for the owner's prefix. Raises Problem `duration_refused`, and Unavailable."""


def upload_policy(bucket: str, owner: Owner) -> str:
    """The session's policy, as JSON. The prefix is a digest, so no character of an owner's id acts as a wildcard."""
    statement = {
        "Effect": "Allow",
        "Action": ["s3:PutObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/{incoming_prefix(owner)}*"],
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class StsKeyIssuer:
    """`KeyIssuer` over AssumeRole: of AWS, or of an S3-compatible store that offers it."""

    def __init__(self, client: "STSClient", settings: Settings) -> None:
        self._client = client
        self._bucket = settings.s3_bucket
        self._role = settings.sts_role_arn
        self._timeout = settings.s3_timeout.total_seconds()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sts")

    @classmethod
    def from_settings(cls, settings: Settings) -> "StsKeyIssuer":
        """The issuer with the endpoint and the keys in the settings."""
        secret = settings.s3_secret_access_key
        client: STSClient = boto3.client(
            "sts",
            endpoint_url=settings.sts_endpoint_url or settings.s3_endpoint_url,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            verify=s3_verify(settings),
            config=boto_config(settings),
        )
        return cls(client, settings)

    async def issue(self, owner: Owner, duration: timedelta) -> TemporaryKeys:
        """See KeyIssuer.issue."""
        try:
            # The time-out includes the wait for a thread.
            async with asyncio.timeout(self._timeout):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._issue, owner, duration)
        except TimeoutError as error:
            raise Unavailable("sts", f"no response within {self._timeout:g} s") from error
        except ClientError as error:
            code, message = error_code(error), error.response.get("Error", {}).get("Message", "")
            if code in REFUSALS:
                raise Problem("duration_refused", f"the object store refused it: {message}") from error
            raise Unavailable("sts", f"{code}: {message}") from error
        except ParamValidationError as error:
            # boto3 checks AWS's limits itself and sends no request; SeaweedFS has the same limits.
            raise Problem("duration_refused", f"outside the store's limits: {error.kwargs['report']}") from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise Unavailable("sts", f"{type(error).__name__}: {error}") from error

    def _issue(self, owner: Owner, duration: timedelta) -> TemporaryKeys:
        response = self._client.assume_role(
            RoleArn=self._role,
            RoleSessionName=SESSION_NAME,
            Policy=upload_policy(self._bucket, owner),
            DurationSeconds=int(duration.total_seconds()),
        )
        keys = response["Credentials"]
        return TemporaryKeys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], keys["Expiration"])

    async def close(self) -> None:
        """Wait for running calls and free the threads."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()
