"""A whole client on one page: upload an image, wait for its variants, fetch, replace, delete it.

Try `python -m client.example --base-url http://127.0.0.1:8000 upload photo.jpg --owner user:1`.
"""

import argparse
import json
import mimetypes
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

WAIT_SECONDS = 60.0
"""Longest time that `wait` waits for the variants."""


class Failed(Exception):  # noqa: N818 - the message is the gateway's own
    """The gateway answered with a problem document; the message is its title and detail."""


def check(response: httpx.Response) -> httpx.Response:
    """The response if it is a success. Raises Failed with the title and detail of the problem document."""
    if response.is_success:
        return response
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
        raise Failed(f"{problem['title']} ({response.status_code}): {problem['detail']}")
    raise Failed(f"{response.request.url} answered {response.status_code}")


def owner_params(owner: str | None) -> dict[str, str]:
    """Query parameters for `type:id`; none for an image that is its own owner."""
    if owner is None:
        return {}
    owner_type, _, owner_id = owner.partition(":")
    return {"owner_type": owner_type, "owner_id": owner_id}


def form(path: Path) -> dict[str, tuple[str, bytes, str]]:
    """The multipart form of one file."""
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {"image": (path.name, path.read_bytes(), content_type)}


def upload(client: httpx.Client, path: Path, owner: str | None = None) -> dict[str, Any]:
    """Upload a file; returns its status document, in most cases with the status `processing`.

    The Idempotency-Key makes a retry after a lost answer safe: it makes no second image.
    """
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    response = client.post("/images", params=owner_params(owner), files=form(path), headers=headers)
    document: dict[str, Any] = check(response).json()
    return document


def metadata(client: httpx.Client, image_id: str) -> dict[str, Any]:
    """The status document of an image."""
    document: dict[str, Any] = check(client.get(f"/images/{image_id}/metadata")).json()
    return document


def wait(client: httpx.Client, image_id: str, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
    """The status document once the latest request is `ready` or `failed`. Raises Failed after `seconds`."""
    deadline = time.monotonic() + seconds
    while (document := metadata(client, image_id))["status"] == "processing":
        if time.monotonic() > deadline:
            raise Failed(f"image {image_id} is still being processed after {seconds:g} s")
        time.sleep(0.25)
    return document


def listing(client: httpx.Client, owner: str | None = None) -> list[dict[str, Any]]:
    """Every image of an owner, or of all, newest first: follows the cursors in `Link`."""
    documents: list[dict[str, Any]] = []
    response = check(client.get("/images", params=owner_params(owner)))
    while True:
        documents += response.json()
        if "next" not in response.links:
            return documents
        response = check(client.get(response.links["next"]["url"]))


def fetch(client: httpx.Client, image_id: str, directory: Path) -> list[Path]:
    """Save each variant as a file in the directory; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    saved = []
    for variant in metadata(client, image_id)["variants"]:
        target = directory / f"{image_id}-{variant['name']}.webp"
        target.write_bytes(check(client.get(variant["url"])).content)
        saved.append(target)
    return saved


def replace(client: httpx.Client, image_id: str, path: Path) -> dict[str, Any]:
    """Give an image new bytes; the old variants are served until the new ones are ready."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    document: dict[str, Any] = check(client.put(f"/images/{image_id}", files=form(path), headers=headers)).json()
    return document


def delete(client: httpx.Client, image_id: str) -> None:
    """Delete an image. It cannot be restored."""
    check(client.delete(f"/images/{image_id}"))


def show(document: dict[str, Any]) -> None:
    """Print an image and its variants."""
    print(f"{document['image_id']}  {document['status']}  {document['file_name']}  {document['size']} bytes")
    for variant in document["variants"]:
        size = f"{variant['width']}x{variant['height']}"
        print(f"  {variant['name']:<8} {size}  {variant['size']} bytes  {variant['url']}")
    for problem in (document["error"], (document["pending"] or {}).get("error")):
        if problem:
            print(f"  {problem['type']}: {problem['detail']}")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m client.example", description="Example client of imagepipe.")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000")
    parser.add_argument("--json", action="store_true", help="print the status documents as JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("upload", help="upload a file and wait for its variants")
    command.add_argument("file", type=Path)
    command.add_argument("--owner", help="type:id, such as user:1")
    command = commands.add_parser("list", help="list the images of an owner, or all")
    command.add_argument("--owner", help="type:id, such as user:1")
    command = commands.add_parser("fetch", help="save each variant as a file")
    command.add_argument("id")
    command.add_argument("directory", type=Path)
    command = commands.add_parser("replace", help="give an image new bytes and wait for its variants")
    command.add_argument("id")
    command.add_argument("file", type=Path)
    for name, what in (("delete", "delete an image"), ("wait", "wait until an image is ready")):
        commands.add_parser(name, help=what).add_argument("id")
    return parser.parse_args(argv)


def run(client: httpx.Client, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the command; returns the documents to show."""
    match args.command:
        case "upload":
            return [wait(client, upload(client, args.file, args.owner)["image_id"])]
        case "list":
            return listing(client, args.owner)
        case "fetch":
            for path in fetch(client, args.id, args.directory):
                print(path)
        case "replace":
            return [wait(client, replace(client, args.id, args.file)["image_id"])]
        case "delete":
            delete(client, args.id)
        case "wait":
            return [wait(client, args.id)]
    return []


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 1 where the gateway refused or the image failed."""
    args = arguments(argv)
    try:
        with httpx.Client(base_url=args.base_url, timeout=60) as client:
            documents = run(client, args)
    except (Failed, httpx.HTTPError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(documents, indent=2))
    else:
        for document in documents:
            show(document)
    waited_for_failure = args.command != "list" and any(document["status"] == "failed" for document in documents)
    return 1 if waited_for_failure else 0


if __name__ == "__main__":
    sys.exit(main())
