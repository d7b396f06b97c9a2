"""Pictures of the bucket: its contents and its policy, as they are in a running local stack.

`python -m docs.generate.pictures --root .imagepipe` writes bucket-contents.svg and bucket-policy.svg into
docs/pictures, or into `--output`. It lists with the server's root key, and sends requests to the bucket as the public
and as the services' user. There must be an image in the bucket.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
from botocore.exceptions import ClientError
from rich.console import Console, Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from deploy.local.state import Root, State
from deploy.seaweedfs.configuration import services_policy
from ops.settings import load_settings
from shared.s3.store import s3_client
from shared.settings import Settings

PICTURES = Path(__file__).parents[1] / "pictures"
WIDTH = 118
MOST_IMAGES = 3
"""The newest; more would say the same again."""


def picture(path: Path, title: str, content: RenderableType, width: int = WIDTH) -> None:
    """Write one SVG, `width` characters wide."""
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=width, file=nowhere)
        console.print(content)
        svg = console.export_svg(title=title)
    # Without the web font: a picture in a repository must load nothing.
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


def contents(settings: Settings, keys: tuple[str, str]) -> RenderableType:
    """The keys as a tree, with sizes and types."""
    client = s3_client(settings, *keys)
    tree = Tree(f"[bold]{settings.s3_bucket}/[/]")
    branches: dict[str, Tree] = {"": tree}
    entries = [entry for page in client.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket)
               for entry in page.get("Contents", [])]  # fmt: skip
    # Ids of images are ordered by time.
    newest = sorted({entry["Key"].split("/")[1] for entry in entries if entry["Key"].startswith("images/")})
    shown = newest[-MOST_IMAGES:]
    for entry in entries:
        key = entry["Key"]
        if key.startswith("images/") and key.split("/")[1] not in shown:
            continue
        parent = _branch(branches, key.rpartition("/")[0])
        kind = client.head_object(Bucket=settings.s3_bucket, Key=key)["ContentType"]
        parent.add(Text.assemble(key.rpartition("/")[2], (f"  {entry['Size']:,} B  {kind}", "dim")))
    client.close()
    return tree


def _branch(branches: dict[str, Tree], path: str) -> Tree:
    if path not in branches:
        above, _, name = path.rpartition("/")
        branches[path] = _branch(branches, above).add(f"[bold]{name}/[/]")
    return branches[path]


def policy(settings: Settings, state: State, keys: tuple[str, str]) -> RenderableType:
    """The services' policy, the lifecycle, and what happens to those who knock."""
    client = s3_client(settings, *keys)
    rules = client.get_bucket_lifecycle_configuration(Bucket=settings.s3_bucket)["Rules"]
    answers = Table("who", "asks for", "answer", box=None, padding=(0, 2, 0, 0))
    for who, what, ask in _knocks(settings, state):
        answer = ask()
        answers.add_row(who, what, f"[{'green' if answer == 200 else 'red'}]{answer}[/]")
    anybody = _outcome(lambda: client.get_bucket_policy(Bucket=settings.s3_bucket))
    client.close()
    return Group(
        f"[bold]Bucket policy, for anybody:[/] {'none: the bucket is private' if anybody == 404 else anybody}\n",
        "[bold]Policy of the services' user[/]",
        _json(services_policy(settings.s3_bucket)),
        "\n[bold]Lifecycle[/]",
        *(f"  {rule['Filter']['Prefix']}*  goes after {rule['Expiration']['Days']} days" for rule in rules),
        "\n[bold]Who is let in[/]",
        answers,
    )


def _json(document: object) -> Syntax:
    text = json.dumps(document, indent=2)
    # One line per list: the picture should fit a page.
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    return Syntax(text, "json", background_color="default", word_wrap=True)


def _knocks(settings: Settings, state: State) -> list[tuple[str, str, Callable[[], int]]]:
    bucket, root = settings.s3_bucket, (state.secrets.s3_root_key, state.secrets.s3_root_secret)
    public = f"{settings.s3_endpoint_url}/{bucket}"
    lister = s3_client(settings, *root)
    original = next(entry["Key"] for entry in lister.list_objects_v2(Bucket=bucket, Prefix="images/")["Contents"]
                    if "/original." in entry["Key"])  # fmt: skip
    lister.close()
    own = s3_client(settings)
    return [
        ("anybody", "the list", lambda: httpx.get(public, trust_env=False).status_code),
        ("anybody", "an original", lambda: httpx.get(f"{public}/{original}", trust_env=False).status_code),
        ("anybody", "to put an object", lambda: httpx.put(f"{public}/x", content=b"x", trust_env=False).status_code),
        ("services", "an original", lambda: _outcome(lambda: own.get_object(Bucket=bucket, Key=original))),
        ("services", "the list", lambda: _outcome(lambda: own.list_objects_v2(Bucket=bucket, MaxKeys=1))),
        ("services", "to change the lifecycle",
         lambda: _outcome(lambda: own.delete_bucket_lifecycle(Bucket=bucket))),
        ("services", "to make the bucket public",
         lambda: _outcome(lambda: own.put_bucket_policy(Bucket=bucket, Policy=_public_policy(bucket)))),
        ("services", "another bucket", lambda: _outcome(lambda: own.create_bucket(Bucket=f"{bucket}-other"))),
    ]  # fmt: skip


def _public_policy(bucket: str) -> str:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _outcome(call: Callable[[], object]) -> int:
    try:
        call()
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return 200


def main() -> None:
    """Make both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(".imagepipe"))
    parser.add_argument("--output", type=Path, default=PICTURES)
    arguments = parser.parse_args()
    root, output = arguments.root, arguments.output
    settings, state = load_settings(root), Root(root).load()
    if state is None:
        parser.error(f"{root} holds no local stack")
    keys = state.secrets.s3_root_key, state.secrets.s3_root_secret
    picture(output / "bucket-contents.svg", "Contents of the bucket", contents(settings, keys))
    picture(output / "bucket-policy.svg", "Policy of the bucket", policy(settings, state, keys))


if __name__ == "__main__":
    main()
