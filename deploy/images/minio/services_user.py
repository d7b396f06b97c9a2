"""The services' own user of a MinIO server, with the least policy they can work with.

`python services_user.py` reads S3_ENDPOINT_URL, S3_BUCKET, the root's S3_ADMIN_ACCESS_KEY_ID and
S3_ADMIN_SECRET_ACCESS_KEY, and the user's S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY. It needs the `minio` package only.
"""

import json
import os
import string
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

POLICY = Path(__file__).with_name("services-policy.json")
POLICY_NAME = "imagepipe-services"
REGION = "us-east-1"


class Keys(NamedTuple):
    """Name and secret of a user."""

    access_key: str
    secret_key: str


def policy(bucket: str) -> dict[str, object]:
    """What the services may do, as a policy document: work with the objects of this bucket, nothing else."""
    return dict(json.loads(string.Template(POLICY.read_text()).substitute(bucket=bucket)))


def apply(endpoint_url: str, root: Keys, services: Keys, bucket: str) -> None:
    """Create the user, or give the existing one this secret and policy. Idempotent. Raises MinioAdminException."""
    from minio.credentials.providers import StaticProvider
    from minio.minioadmin import MinioAdmin

    url = urlsplit(endpoint_url)
    admin = MinioAdmin(
        endpoint=url.netloc, region=REGION, secure=url.scheme == "https", credentials=StaticProvider(*root)
    )
    admin.user_add(*services)
    admin.policy_add(POLICY_NAME, policy=policy(bucket))
    admin.policy_set(POLICY_NAME, user=services.access_key)


def main() -> None:
    """Apply what the environment says."""
    env = os.environ
    root = Keys(env["S3_ADMIN_ACCESS_KEY_ID"], env["S3_ADMIN_SECRET_ACCESS_KEY"])
    services = Keys(env["S3_ACCESS_KEY_ID"], env["S3_SECRET_ACCESS_KEY"])
    apply(env["S3_ENDPOINT_URL"], root, services, env["S3_BUCKET"])
    print(f"user {services.access_key} may work in bucket {env['S3_BUCKET']}")


if __name__ == "__main__":
    main()
