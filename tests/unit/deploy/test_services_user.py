"""The S3 policy of the services' own user."""

import json

from deploy.images.minio import services_user


def test_services_policy_is_about_one_bucket_only() -> None:
    policy = json.loads(json.dumps(services_user.policy("pics")))
    resources = {resource for statement in policy["Statement"] for resource in statement["Resource"]}
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert resources == {"arn:aws:s3:::pics", "arn:aws:s3:::pics/*"}
    assert not any("*" in action for action in actions)
