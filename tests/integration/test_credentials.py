"""Temporary keys on the real store: what they permit, what they forbid, and the ingest of what they put."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.api import JPEG, PNG, Api
from tests.support.engines.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOSTILE = ["*", "?", "../x", "a/*"]


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[Api]:
    if not stack.settings.credentials_enabled:
        pytest.skip("this deployment gives out no temporary keys")
    with Api(stack.base_url) as client:
        yield client


def keys_for(api: Api, **owner: str) -> dict[str, Any]:
    answer = api.post("/credentials", params=owner)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def client_of(found: dict[str, Any], **changes: str) -> "S3Client":
    keys = found["credentials"] | changes
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=found["endpoint_url"],
        region_name=found["region"],
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
        aws_session_token=keys["session_token"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    return client


def put(api: Api, owner: dict[str, str], data: bytes, name: str = "photo.jpg") -> tuple[dict[str, Any], str]:
    found = keys_for(api, **owner)
    key = f"{found['prefix']}{name}"
    client_of(found).put_object(Bucket=found["bucket"], Key=key, Body=data, ContentType="text/html")
    return found, key


def ingest(api: Api, key: str, owner: dict[str, str], **headers: str) -> httpx.Response:
    return api.post("/images", json={"incoming": key, **owner}, headers=headers)


def denied(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    code: str = caught.value.response["Error"]["Code"]
    return code


def test_an_object_put_with_a_temporary_key_becomes_an_image(api: Api, owner: dict[str, str]) -> None:
    _, key = put(api, owner, JPEG, "holiday/düne.jpg")

    answer = ingest(api, key, owner, Prefer="wait=30")

    found = answer.json()
    assert (answer.status_code, found["status"], found["file_name"]) == (200, "ready", "düne.jpg")
    assert found["original"]["content_type"] == "image/jpeg"
    assert api.get(found["original"]["url"]).content == JPEG
    assert api.ids_of(**owner) == [found["image_id"]]


def test_second_ingest_returns_the_first_answer_and_new_bytes_make_a_new_image(api: Api, owner: dict[str, str]) -> None:
    found, key = put(api, owner, JPEG)
    first, second = (ingest(api, key, owner) for _ in range(2))
    client_of(found).put_object(Bucket=found["bucket"], Key=key, Body=PNG)
    third = ingest(api, key, owner)

    assert second.json() == first.json()
    assert third.json()["image_id"] != first.json()["image_id"]
    assert len(api.ids_of(**owner)) == 2


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "empty"),
        (b"text", 415, "unsupported_format"),
        (JPEG[:100], 422, "truncated"),
        (JPEG + b"\0" * 5_242_880, 413, "file_too_large"),
    ],
)
def test_ingested_object_is_checked_as_an_upload(
    api: Api, owner: dict[str, str], data: bytes, status: int, code: str
) -> None:
    _, key = put(api, owner, data)

    answer = ingest(api, key, owner)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert api.ids_of(**owner) == []


def test_an_object_of_another_owner_is_refused(api: Api, owner: dict[str, str]) -> None:
    _, key = put(api, owner, JPEG)

    answer = ingest(api, key, {"user_id": owner["user_id"] + "x"})

    assert (answer.status_code, answer.json()["code"]) == (400, "incoming_mismatch")


def test_temporary_key_may_only_put_under_its_prefix(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    found, key = put(api, owner, JPEG)
    other = keys_for(api, user_id=owner["user_id"] + "x")["prefix"]
    image = api.upload(JPEG, **owner)
    client, bucket = client_of(found), found["bucket"]

    assert denied(client.get_object, Bucket=bucket, Key=key) == "AccessDenied"
    assert denied(client.get_object, Bucket=bucket, Key=image["original"]["path"]) == "AccessDenied"
    assert denied(client.list_objects_v2, Bucket=bucket, Prefix=found["prefix"]) == "AccessDenied"
    assert denied(client.delete_object, Bucket=bucket, Key=key) == "AccessDenied"
    for source in (image["original"]["path"], key):
        copy = {"Bucket": bucket, "Key": f"{found['prefix']}copy", "CopySource": {"Bucket": bucket, "Key": source}}
        assert denied(client.copy_object, **copy) == "AccessDenied"
    for target in (f"{other}x", "incoming/x", "images/x", image["original"]["path"], "tombstones/x", "x"):
        assert denied(client.put_object, Bucket=bucket, Key=target, Body=b"x") == "AccessDenied"
    assert denied(client.put_object, Bucket=f"{bucket}-other", Key=key, Body=b"x") in ("AccessDenied", "NoSuchBucket")


@pytest.mark.parametrize("owner_id", HOSTILE)
def test_wildcards_in_an_owner_name_are_literal(api: Api, owner: dict[str, str], owner_id: str) -> None:
    found = keys_for(api, user_id=owner_id)
    victim = keys_for(api, **owner)["prefix"]
    client = client_of(found)

    client.put_object(Bucket=found["bucket"], Key=f"{found['prefix']}a.jpg", Body=JPEG)
    assert denied(client.put_object, Bucket=found["bucket"], Key=f"{victim}a.jpg", Body=b"x") == "AccessDenied"


def test_changed_token_is_refused(api: Api, owner: dict[str, str]) -> None:
    found = keys_for(api, **owner)
    token = found["credentials"]["session_token"]
    middle = len(token) // 2
    changed = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]

    code = denied(
        client_of(found, session_token=changed).put_object, Bucket=found["bucket"], Key=f"{found['prefix']}x", Body=b"x"
    )

    assert code in ("AccessDenied", "InvalidTokenId", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch")


def signed_by_the_store(stack: Stack, token: str, **changed: Any) -> str:
    """The session token with changed claims and a right signature, as the store itself would make it."""
    configuration = json.loads((stack.root.data / "s3" / "config" / "iam.json").read_text())
    header, payload, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | changed
    signed = f"{header}.{_base64(json.dumps(claims).encode())}"
    key = base64.b64decode(configuration["sts"]["signingKey"])
    return f"{signed}.{_base64(hmac.digest(key, signed.encode(), 'sha256'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_expired_temporary_key_is_refused(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    """The store gives out keys for 15 minutes at least, so the test signs a token whose time is over."""
    if not stack.runs("s3"):
        pytest.skip("the S3 server is not this stack's own")
    found, key = put(api, owner, JPEG)
    token, bucket = found["credentials"]["session_token"], found["bucket"]
    valid = client_of(found, session_token=signed_by_the_store(stack, token))
    expired = client_of(found, session_token=signed_by_the_store(stack, token, exp=int(time.time()) - 1))

    valid.put_object(Bucket=bucket, Key=key, Body=JPEG)
    assert denied(expired.put_object, Bucket=bucket, Key=key, Body=PNG) in ("InvalidAccessKeyId", "ExpiredToken")


def test_credentials_state_the_limits_of_the_store(api: Api, owner: dict[str, str]) -> None:
    short = api.post("/credentials", params=owner | {"duration": "60"})
    allowed = api.post("/credentials", params=owner | {"duration": "900"})

    assert (short.status_code, short.json()["code"]) == (400, "duration_refused")
    assert "900" in short.json()["detail"]
    assert allowed.status_code == 201


def test_bucket_refuses_requests_without_keys(api: Api, stack: Stack, owner: dict[str, str]) -> None:
    image = api.settled(api.upload(JPEG, **owner)["image_id"])
    base = f"{stack.settings.s3_public_endpoint_url}/{stack.settings.s3_bucket}"

    for path in (image["original"]["path"], image["variants"][0]["path"], "", "?list-type=2"):
        assert httpx.get(f"{base}/{path}").status_code == 403
    assert httpx.put(f"{base}/incoming/x", content=b"x").status_code == 403
