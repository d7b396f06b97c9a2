"""A whole client on one page: upload an image, wait for its variants, fetch, replace, delete it.

Try `python -m client.example --base-url http://127.0.0.1:8000 upload photo.jpg --owner user:1`.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from imagepipe_client import Client, Image, ImagepipeError, Owner


def owner(text: str) -> Owner:
    """The owner of `type:id`, such as user:1."""
    return Owner(*text.split(":", 1))


def fetch(client: Client, image_id: str, directory: Path) -> Iterable[Path]:
    """Save each variant as a file in the directory; gives their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, variant in client.get(image_id).variants.items():
        target = directory / f"{image_id}-{Path(variant.path).name}"
        target.write_bytes(client.content(image_id, name))
        yield target


def show(image: Image) -> None:
    """Print an image and its variants."""
    print(f"{image.id}  {image.status}  {image.file_name}  {image.size} bytes")
    for variant in image.variants.values():
        size = f"{variant.width}x{variant.height}"
        print(f"  {variant.name:<8} {size}  {variant.size} bytes  {variant.url}")
    for failure in (image.error, image.pending and image.pending.error):
        if failure:
            print(f"  {failure.type}: {failure.detail}")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m client.example", description="Example client of imagepipe.")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000")
    parser.add_argument("--json", action="store_true", help="print the status documents as JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("upload", help="upload a file and wait for its variants")
    command.add_argument("file", type=Path)
    command.add_argument("--owner", type=owner, help="type:id, such as user:1")
    command = commands.add_parser("list", help="list the images of an owner, or all")
    command.add_argument("--owner", type=owner, help="type:id, such as user:1")
    command = commands.add_parser("fetch", help="save each variant as a file")
    command.add_argument("id")
    command.add_argument("directory", type=Path)
    command = commands.add_parser("replace", help="give an image new bytes and wait for its variants")
    command.add_argument("id")
    command.add_argument("file", type=Path)
    for name, what in (("delete", "delete an image"), ("wait", "wait until an image is ready")):
        commands.add_parser(name, help=what).add_argument("id")
    return parser.parse_args(argv)


def run(client: Client, args: argparse.Namespace) -> list[Image]:
    """Run the command; returns the images to show."""
    match args.command:
        case "upload":
            return [client.wait(client.upload(args.file, owner=args.owner))]
        case "list":
            return list(client.images(args.owner))
        case "fetch":
            for path in fetch(client, args.id, args.directory):
                print(path)
        case "replace":
            return [client.wait(client.replace(args.id, args.file))]
        case "delete":
            client.delete(args.id)
        case "wait":
            return [client.wait(args.id)]
    return []


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 1 where the gateway refused or the image failed."""
    args = arguments(argv)
    try:
        with Client(args.base_url) as client:
            images = run(client, args)
    except (ImagepipeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps([image.raw for image in images], indent=2))
    else:
        for image in images:
            show(image)
    waited_for_failure = args.command != "list" and any(image.status == "failed" for image in images)
    return 1 if waited_for_failure else 0


if __name__ == "__main__":
    sys.exit(main())
