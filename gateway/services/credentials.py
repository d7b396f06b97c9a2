"""Temporary keys: an STS session that may do nothing but put objects under its owner's prefix."""

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
from shared.s3.store import boto_config
from shared.security import s3_verify
from shared.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

SESSION_NAME = "imagepipe-upload"
THREADS = 4
"""Concurrent STS calls of one process, in threads of their own: a slow server keeps nobody else's work waiting."""
REFUSALS = frozenset({"ValidationError", "InvalidParameterValue", "PackedPolicyTooLarge", "STSInvalidParameterValue"})
"""Error codes with which servers refuse a duration."""


@dataclass(frozen=True)
class TemporaryKeys:
    """What a client signs with, until `expiration`."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: datetime


class KeyIssuer(Protocol):
    """Issues temporary keys."""

    async def issue(self, owner: Owner, duration: timedelta) -> TemporaryKeys:
        """Keys for the owner's prefix. Raises Problem `duration_refused`, and Unavailable."""


def upload_policy(bucket: str, owner: Owner) -> str:
    """The session's policy, as JSON. The prefix is a digest, so nothing in an owner's id can act as a wildcard."""
    statement = {
        "Effect": "Allow",
        "Action": ["s3:PutObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/{incoming_prefix(owner)}*"],
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class StsKeyIssuer:
    """`KeyIssuer` over AssumeRole, of AWS or of a store that speaks it at its own endpoint."""

    def __init__(self, client: "STSClient", settings: Settings) -> None:
        self._client = client
        self._bucket = settings.s3_bucket
        self._role = settings.sts_role_arn
        self._timeout = settings.s3_timeout.total_seconds()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sts")

    @classmethod
    def from_settings(cls, settings: Settings) -> "StsKeyIssuer":
        """The issuer that the settings name."""
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
            # The wait for a thread included.
            async with asyncio.timeout(self._timeout):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._issue, owner, duration)
        except TimeoutError as error:
            raise Unavailable("sts", f"no answer within {self._timeout:g} s") from error
        except ClientError as error:
            found = error.response["Error"]
            code, message = found.get("Code", ""), found.get("Message", "")
            if code in REFUSALS:
                raise Problem("duration_refused", f"the object store says: {message}") from error
            raise Unavailable("sts", f"{code}: {message}") from error
        except ParamValidationError as error:
            # boto3 knows AWS's limits, which MinIO shares, and asks no server about what is outside of them.
            raise Problem("duration_refused", f"the object store's limits: {error.kwargs['report']}") from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise Unavailable("sts", f"{type(error).__name__}: {error}") from error

    def _issue(self, owner: Owner, duration: timedelta) -> TemporaryKeys:
        answer = self._client.assume_role(
            RoleArn=self._role,
            RoleSessionName=SESSION_NAME,
            Policy=upload_policy(self._bucket, owner),
            DurationSeconds=int(duration.total_seconds()),
        )
        keys = answer["Credentials"]
        return TemporaryKeys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], keys["Expiration"])

    async def close(self) -> None:
        """Let running calls end and free the threads."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()
