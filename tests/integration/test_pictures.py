"""The pictures of the bucket are made from what is in it."""

import html
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.engines.stack import Stack
from tests.support.images import encode, photo
from tests.support.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent


def words(picture: Path) -> str:
    """The text of an SVG, its lines joined."""
    return html.unescape(re.sub(r"<[^>]+>", " ", picture.read_text())).replace("\xa0", " ")


def test_pictures_show_contents_and_policy(stack: Stack, tmp_path: Path) -> None:
    if not stack.runs("s3"):
        pytest.skip("the S3 server is not this stack's own")
    with httpx.Client(base_url=stack.base_url, trust_env=False, timeout=60) as client:
        answer = client.post("/images", files={"image": ("a.jpg", encode(photo(200, 100), "JPEG"), "image/jpeg")})
        path = f"/images/{answer.json()['image_id']}/metadata"
        wait_for(lambda: client.get(path).json()["status"] == "ready", 60, "the image is ready")

    argv = [sys.executable, "-m", "docs.generate.pictures", "--root", str(stack.root.path), "--output", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    contents, policy = words(tmp_path / "bucket-contents.svg"), words(tmp_path / "bucket-policy.svg")
    for name in ("original.jpg", "full.webp", "large.webp", "medium.webp", "small.webp", "manifest.json"):
        assert name in contents
    assert "none: the bucket is private" in policy
    assert "s3:DeleteObject" in policy
    assert (
        re.findall(r"\b(200|403|404)\b", policy.partition("Who is let in")[2])
        == ["403"] * 3 + ["200"] * 2 + ["403"] * 3
    )
    # The web font of the renderer was removed, because a picture in a repository must load nothing.
    loaded = re.findall(r"url\((?!#)", (tmp_path / "bucket-policy.svg").read_text())
    assert loaded == []
