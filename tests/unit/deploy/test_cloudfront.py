"""The CloudFront module: readable HCL, a closed bucket, and a function that lets through what /media does."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest

from shared.contract.keys import parse_media_path
from shared.settings import Settings

MODULE = Path(__file__).parents[3] / "deploy" / "cdn" / "cloudfront"
IMAGE = "0199a3a4-1111-7222-8333-444455556666"
PATHS = {
    f"images/{IMAGE}/{IMAGE}/original.jpg": True,
    f"images/{IMAGE}/{IMAGE}/0123456789abcdef/full.webp": True,
    f"images/{IMAGE}/{IMAGE}/0123456789abcdef-42/small_2.webp": True,
    f"images/{IMAGE}/{IMAGE}/0123456789abcdef/manifest.json": False,
    f"images/{IMAGE}/{IMAGE}/original.gif": False,
    f"images/{IMAGE}/{IMAGE}/": False,
    f"images/{IMAGE}/x/original.jpg": False,
    f"tombstones/{IMAGE}": False,
    "incoming/abc/photo.jpg": False,
    "": False,
}


@cache
def blocks(kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Blocks of the module by type and name."""
    found = {}
    for path in sorted(MODULE.glob("*.tf")):
        for block in hcl2.loads(path.read_text()).get(kind, []):
            for resource_type, named in block.items():
                for name, body in named.items():
                    found[resource_type.strip('"'), name.strip('"')] = body
    return found


def test_bucket_is_readable_by_the_distribution_only() -> None:
    resources = blocks("resource")
    block = resources["aws_s3_bucket_public_access_block", "images"]
    assert {name: value for name, value in block.items() if name.startswith(("block_", "ignore_", "restrict_"))} == {
        "block_public_acls": True,
        "block_public_policy": True,
        "ignore_public_acls": True,
        "restrict_public_buckets": True,
    }
    assert ("aws_cloudfront_origin_access_control", "media") in resources
    text = (MODULE / "bucket.tf").read_text()
    assert "AWS:SourceArn" in text
    assert re.findall(r'identifiers = \["(.*)"\]', text) == ["cloudfront.amazonaws.com", "*"]
    assert text.count('effect    = "Deny"') == 1


def test_every_reference_of_the_module_is_defined() -> None:
    text = "".join(path.read_text() for path in MODULE.glob("*.tf"))
    declared = {f"{kind}.{name}" for kind, name in blocks("resource")}
    used = set(re.findall(r"\b(aws_\w+\.\w+)\.\w+", text))
    data = {f"{kind}.{name}" for kind, name in blocks("data")}
    assert used <= declared | data
    variables = set(re.findall(r"\bvar\.(\w+)", text))
    assert variables == set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))


def test_defaults_equal_those_of_the_settings() -> None:
    text = (MODULE / "variables.tf").read_text()
    defaults = dict(re.findall(r'variable "(\w+)" \{[^}]*?default\s*= (\S+)', text))
    fields = Settings.model_fields
    assert int(defaults["media_max_age"]) == fields["media_max_age"].default.total_seconds()
    assert int(defaults["tombstone_days"]) == fields["tombstone_retention"].default.days
    assert defaults["public_originals"] == str(fields["public_originals"].default).lower()


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_module_is_formatted_as_terraform_fmt_does() -> None:
    answer = subprocess.run(
        ["terraform", f"-chdir={MODULE}", "fmt", "-check", "-diff"], capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("originals", [True, False])
def test_function_accepts_the_paths_that_the_gateway_serves(originals: bool) -> None:
    script = (MODULE / "media.js.tftpl").read_text().replace("${originals}", str(originals).lower())
    uris = [*(f"/media/{path}" for path in PATHS), *(f"/{path}" for path in PATHS), "/media/../images/x"]
    script += f"\nconsole.log(JSON.stringify({json.dumps(uris)}.map(uri => handler({{request: {{uri}}}}))));"
    answer = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    answers = dict(zip(uris, json.loads(answer.stdout), strict=True))
    for path, served in PATHS.items():
        assert (parse_media_path(path) is not None) is served
        expected = served and (originals or "original" not in path)
        assert (answers[f"/media/{path}"].get("uri") == f"/{path}") is expected, path
        assert answers[f"/{path}"].get("statusCode") == 404
    assert answers["/media/../images/x"]["statusCode"] == 404
