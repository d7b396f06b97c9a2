"""Configuration files of SeaweedFS: what each S3 user may do, and the keys that close its internal HTTP ports."""

import base64
import hashlib
import hmac
import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.state import write_private

POLICY = Path(__file__).with_name("services-policy.json")
ACCOUNT = "000000000000"
ROLE = "imagepipe-upload"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
"""The default of STS_ROLE_ARN."""
LONGEST_SESSION = 12 * 60 * 60
"""Seconds; the server refuses more than 43,200."""
JWT_SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
"""Writing to and reading from the volume server and the filer by HTTP. Without these keys both are open."""
MASTER = "[master.volume_growth]\ncopy_1 = 1\n"
"""One volume for a new bucket instead of seven: a volume is a file that is open permanently."""


@dataclass(frozen=True)
class Keys:
    """Access keys of the administrator and of the services."""

    root_key: str
    root_secret: str
    services_key: str
    services_secret: str


def services_policy(bucket: str) -> dict[str, Any]:
    """What the services may do, as a policy document: work with the objects of this bucket, nothing else."""
    return dict(json.loads(string.Template(POLICY.read_text()).substitute(bucket=bucket)))


def identities(keys: Keys) -> dict[str, Any]:
    """s3.json: the two users. The services have a policy and no `actions`, which would allow to set the lifecycle."""
    return {
        "identities": [
            {
                "name": "root",
                "credentials": [{"accessKey": keys.root_key, "secretKey": keys.root_secret}],
                "actions": ["Admin"],
            },
            {
                "name": "services",
                "credentials": [{"accessKey": keys.services_key, "secretKey": keys.services_secret}],
                "policyNames": ["services"],
            },
        ]
    }


def access_management(keys: Keys, bucket: str) -> dict[str, Any]:
    """iam.json: policies, and the role that the services assume for temporary keys.

    The role allows to put incoming objects; the policy of each session narrows that to one owner's prefix.
    """
    return {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": f"{LONGEST_SESSION}s",
            "issuer": "seaweedfs-sts",
            "signingKey": base64.b64encode(_derived(keys, "sts")).decode(),
            "accountId": ACCOUNT,
        },
        "policy": {"storeType": "memory", "defaultEffect": "Deny"},
        "policies": [
            {"name": "services", "document": services_policy(bucket)},
            {
                "name": "uploads",
                "document": _document({"Action": ["s3:PutObject"], "Resource": [f"arn:aws:s3:::{bucket}/incoming/*"]}),
            },
        ],
        "roles": [
            {
                "roleName": ROLE,
                "roleArn": ROLE_ARN,
                "attachedPolicies": ["uploads"],
                "maxSessionDuration": LONGEST_SESSION,
                "trustPolicy": _document(
                    {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/services"}, "Action": ["sts:AssumeRole"]}
                ),
            }
        ],
    }


def _document(statement: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}


def security(keys: Keys) -> str:
    """security.toml: the keys of the tokens with which the parts of the server call each other by HTTP."""
    return "".join(f'[{section}]\nkey = "{_derived(keys, section).hex()}"\n' for section in JWT_SECTIONS)


def _derived(keys: Keys, purpose: str) -> bytes:
    # Derived, so that a deployment keeps one secret, and tokens stay valid over a restart.
    return hmac.digest(keys.root_secret.encode(), f"imagepipe {purpose}".encode(), hashlib.sha256)


def write(folder: Path, keys: Keys, bucket: str) -> None:
    """Write all files under `folder`, which is the server's working directory, for the owner only. Idempotent."""
    for directory in (folder, folder / "data", folder / "config"):
        directory.mkdir(exist_ok=True, mode=0o700)
        directory.chmod(0o700)
    texts = {
        "s3.json": json.dumps(identities(keys), indent=2),
        "iam.json": json.dumps(access_management(keys, bucket), indent=2),
        "security.toml": security(keys),
        "master.toml": MASTER,
    }
    for name, text in texts.items():
        write_private(folder / "config" / name, text)
    # The server writes its flags there, and reads them at the next start: those of an earlier version must not win.
    (folder / "data" / "mini.options").unlink(missing_ok=True)
