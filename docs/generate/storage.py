"""Writes docs/storage.md from a running local stack: `python -m docs.generate.storage --root .imagepipe`.

It uploads two images for an owner of its own and deletes one of them. The page shows what the bucket and Cassandra then
hold. The generator lists with the root key of the S3 server, because the services may not read lifecycle and policy.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import ClientError
from PIL import Image

from deploy.local.state import Root, State
from deploy.seaweedfs.configuration import services_policy
from ops.settings import load_settings
from shared.cassandra.index import CassandraIndex
from shared.s3.store import error_code, s3_client
from shared.settings import Settings

TARGET = Path(__file__).parents[1] / "storage.md"
OWNER = {"owner_type": "sample", "owner_id": "storage"}
WAIT_SECONDS = 60
HEAD = """# What is stored where

`python -m docs.generate.storage --root .imagepipe` writes this page from a running local stack. It uploads two images
and deletes one of them again. Pictures of the same: [contents](pictures/bucket-contents.svg),
[policy](pictures/bucket-policy.svg).
"""
KEYS = [
    (
        "`images/{image_id}/{revision}/original.{ext}`",
        "the bytes as uploaded; the type of the bytes decides `ext`, not the name of the file",
        "until the image is deleted, or an hour (`SWEEP_DELAY`) after a newer revision is ready",
    ),
    (
        "`images/{image_id}/{revision}/{render}/{name}.{ext}`",
        "one variant; `render` is the digest of the ladder, and for a reprocess also the command's version",
        "the same",
    ),
    (
        "`images/{image_id}/{revision}/{render}/manifest.json`",
        "the complete result of that render, written once; replays and rebuilds read it",
        "as long as the image",
    ),
    (
        "`images/{image_id}/-ready/{versions}-{revision}-{render}`",
        "the marker of a ready render: empty; the inverted versions in its key let a listing find the latest render "
        "first. `-complete` says that the markers of an image are complete ([ADR "
        "15](adr/0015-markers-of-ready-renders.md))",
        "as long as the image",
    ),
    (
        "`tombstones/{image_id}`",
        "the version at which the image was deleted",
        "70 days (`TOMBSTONE_RETENTION`)",
    ),
    (
        "`incoming/{sha256 of the owner key}/{file name}`",
        "an object that a client put with a temporary key and that is not ingested yet",
        "a day",
    ),
]
"""Every kind of key, what is under it, and for how long."""
IMMUTABLE = """No object of an image is ever overwritten. A new revision or render has new keys, so the content of a URL
never changes.

After the two uploads and the deletion, the bucket holds these objects of the two images:
"""
PRIVATE = """## Its policy

The bucket has no policy of its own, so it is private: every access needs a key. Clients and CDNs read through
`GET /media/{path}`, which serves only originals and variants of images that exist. A temporary key can only put objects
under the `incoming/` prefix of one owner.
"""
INDEX = """## Cassandra

The tables hold every file name, path and URL. They are a view of the log, and `imagepipe reindex` builds them again.
`images`, `images_by_owner` and `images_by_day` have the same columns under different keys. A column that ends in
`_json` is a JSON text. `current`, `outcome` and `request` are columns of an earlier release, empty in new rows.
"""


def sample() -> bytes:
    """A JPEG of some size."""
    gradient = Image.linear_gradient("L").resize((1600, 1000))
    file = BytesIO()
    Image.merge("RGB", (gradient, gradient.rotate(180), Image.new("L", gradient.size, 90))).save(file, "JPEG")
    return file.getvalue()


def upload(client: httpx.Client, name: str) -> dict[str, Any]:
    """Upload an image, wait until it is ready, and return its status document."""
    answer = client.post("/images", params=OWNER, files={"image": (name, sample(), "image/jpeg")})
    path = f"/images/{answer.raise_for_status().json()['image_id']}/metadata"
    return wait_for(lambda: _settled(client.get(path, headers={"Cache-Control": "no-cache"})), f"{name} is ready")


def _settled(answer: httpx.Response) -> dict[str, Any] | None:
    document: dict[str, Any] = answer.raise_for_status().json()
    return None if document["status"] == "processing" else document


def wait_for(look: Callable[[], dict[str, Any] | None], what: str) -> dict[str, Any]:
    """Call `look` until it returns something other than None. Raises TimeoutError."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WAIT_SECONDS} s: {what}")
        time.sleep(0.2)
    return found


class Bucket:
    """The bucket, as the S3 server describes it."""

    def __init__(self, settings: Settings, state: State) -> None:
        self._client = s3_client(settings, state.secrets.s3_root_key, state.secrets.s3_root_secret)
        self._url = f"{settings.s3_endpoint_url}/{settings.s3_bucket}"
        self._name = settings.s3_bucket

    def objects(self, prefix: str) -> list[tuple[str, str, str]]:
        """Key, size in bytes and content type of each object."""
        listed = self._client.list_objects_v2(Bucket=self._name, Prefix=prefix).get("Contents", [])
        return [(f"`{item['Key']}`", f"{item['Size']:,}", self._type(item["Key"])) for item in listed]

    def _type(self, key: str) -> str:
        return self._client.head_object(Bucket=self._name, Key=key)["ContentType"]

    def lifecycle(self) -> list[tuple[str, str]]:
        """Prefixes, and the days after which objects under them are deleted."""
        rules = self._client.get_bucket_lifecycle_configuration(Bucket=self._name)["Rules"]
        return [(f"`{rule['Filter']['Prefix']}`", f"{rule['Expiration']['Days']} day(s)") for rule in rules]

    def own_policy(self) -> str:
        """The policy of the bucket."""
        try:
            return str(self._client.get_bucket_policy(Bucket=self._name)["Policy"])
        except ClientError as error:
            if error_code(error) != "NoSuchBucketPolicy":
                raise
            return "none"

    def access_without_keys(self, path: str) -> list[tuple[str, str]]:
        """Status codes that a caller without keys gets."""
        attempts: dict[str, Callable[[], httpx.Response]] = {
            "GET an original": lambda: httpx.get(f"{self._url}/{path}", trust_env=False),
            "GET the list": lambda: httpx.get(self._url, trust_env=False),
            "PUT an object": lambda: httpx.put(f"{self._url}/x", content=b"x", trust_env=False),
        }
        return [(what, str(attempt().status_code)) for what, attempt in attempts.items()]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[CassandraIndex]:
    """The index, closed at the end."""
    index = await CassandraIndex.open(settings)
    try:
        yield index
    finally:
        await index.close()


async def tables(settings: Settings) -> list[tuple[str, str, str]]:
    """Name, primary key and columns of each table."""
    async with opened(settings) as index:
        rows = await index.execute(
            "SELECT table_name, column_name, kind, position, type FROM system_schema.columns WHERE keyspace_name = ?",
            [settings.cassandra_keyspace],
        )
    found = []
    for name in sorted({row.table_name for row in rows}):
        columns = [row for row in rows if row.table_name == name]
        keys = [
            ", ".join(row.column_name for row in sorted(columns, key=lambda row: row.position) if row.kind == kind)
            for kind in ("partition_key", "clustering")
        ]
        others = ", ".join(f"{row.column_name} {row.type}" for row in columns if row.kind == "regular")
        found.append((f"`{name}`", f"(({keys[0]}), {keys[1]})" if keys[1] else f"(({keys[0]}))", others))
    return found


async def row(settings: Settings, image_id: str) -> dict[str, Any]:
    """One row of `images_by_owner`, without empty columns, and with the JSON of its column groups read."""
    async with opened(settings) as index:
        rows = await index.execute(
            "SELECT JSON * FROM images_by_owner WHERE owner_type = ? AND owner_id = ?", list(OWNER.values())
        )
    parsed = (json.loads(found[0]) for found in rows)
    columns = next(found for found in parsed if found["image_id"] == image_id)
    return {
        name: json.loads(value) if name.endswith("_json") else value
        for name, value in columns.items()
        if value is not None
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def fenced(document: object) -> str:
    """JSON as a code block."""
    return f"```json\n{json.dumps(document, indent=2, ensure_ascii=False)}\n```\n"


def page(settings: Settings, state: State) -> str:
    """The whole page. Raises TimeoutError if the stack does not process images."""
    with httpx.Client(base_url=str(state.gateway_url), timeout=60, trust_env=False) as client:
        kept, gone = upload(client, "dunes.jpg"), upload(client, "mistake.jpg")
        client.delete(f"/images/{gone['image_id']}").raise_for_status()
    bucket = Bucket(settings, state)
    tombstone = f"tombstones/{gone['image_id']}"
    wait_for(lambda: {} if bucket.objects(tombstone) and not bucket.objects(f"images/{gone['image_id']}/") else None,
             "the deleted image's objects are gone")  # fmt: skip
    contents = bucket.objects(f"images/{kept['image_id']}/") + bucket.objects(tombstone)
    parts = [
        HEAD,
        "## The bucket\n",
        table(["key", "contents", "kept"], KEYS),
        IMMUTABLE,
        table(["key", "bytes", "type"], contents),
        PRIVATE,
        f"Bucket policy: {bucket.own_policy()}. Without keys, the S3 server answers:\n",
        table(["request", "status"], bucket.access_without_keys(kept["original"]["path"])),
        "Lifecycle:\n",
        table(["prefix", "deleted after"], bucket.lifecycle()),
        "The policy of the user that the services work with allows only this:\n",
        fenced(services_policy(settings.s3_bucket)),
        INDEX,
        table(["table", "primary key", "other columns"], asyncio.run(tables(settings))),
        "The row of the image above in `images_by_owner`, with its JSON texts as JSON:\n",
        fenced(asyncio.run(row(settings, kept["image_id"]))),
    ]
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(".imagepipe"))
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    state = Root(arguments.root).load()
    if state is None or state.gateway_url is None or "s3" not in state.parts:
        parser.error(f"{arguments.root} holds no running local stack with its own S3 server")
    arguments.output.write_text(page(load_settings(arguments.root), state))


if __name__ == "__main__":
    main()
