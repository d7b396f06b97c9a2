"""docs/storage.md is generated from a running stack."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engines.stack import Stack

ROOT = Path(__file__).parent.parent.parent


def test_the_page_shows_bucket_policy_and_rows(stack: Stack, tmp_path: Path) -> None:
    if not stack.runs("s3"):
        pytest.skip("the S3 server is not this stack's own")
    target = tmp_path / "storage.md"

    argv = [sys.executable, "-m", "docs.generate.storage", "--root", str(stack.root.path), "--output", str(target)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    page = target.read_text()
    for name in (
        "original.jpg",
        "full.webp",
        "large.webp",
        "medium.webp",
        "small.webp",
        "manifest.json",
        "tombstones/",
    ):
        assert f"{name}" in page.partition("these objects of the two images")[2].partition("## Its policy")[0]
    assert "Bucket policy: none." in page
    assert page.count("| 403 |") == 3
    assert "s3:DeleteObject" in page
    row = page.partition("The row of the image above")[2]
    for column in ('"file_name": "dunes.jpg"', "/small.webp", '"url": "http'):
        assert column in row
    assert [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `image")][-4:] == [
        "`image_days`", "`images`", "`images_by_day`", "`images_by_owner`",
    ]  # fmt: skip
