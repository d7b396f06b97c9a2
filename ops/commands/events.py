"""`imagepipe events`: forward live events, or one example, to a URL on a developer's machine."""

import json
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated, Any

import httpx
import typer

from imagepipe_client import AsyncClient, Resync
from imagepipe_client import ImagepipeError as ClientError
from ops.connections import run
from ops.forwarding import Delivery, forward
from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, OnlyOwner
from ops.terminal.output import DIFFERENCES_FOUND, Output
from shared.contract.encoding import decode_event
from shared.contract.events import Event
from shared.contract.examples import example
from shared.contract.json_schema import EVENTS
from shared.contract.keys import Owner, new_id
from shared.errors import ImagepipeError

EventType = StrEnum("EventType", {name.partition(".")[2].upper(): name for name in sorted(EVENTS)})  # type: ignore[misc]

app = typer.Typer(
    no_args_is_help=True,
    help="For developers of a service that handles events: send them to a URL on this machine. This is no delivery "
    "for production: read Kafka there (docs/events.md).",
)

ForwardTo = Annotated[
    str, typer.Option("--forward-to", metavar="URL", help="Where each event is sent: a CloudEvents POST, binary mode.")
]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="events")


@app.command()
def listen(
    forward_to: ForwardTo,
    root: DeploymentRoot = None,
    gateway: Annotated[
        str | None, typer.Option("--gateway", metavar="URL", help="The gateway. By default PUBLIC_BASE_URL.")
    ] = None,
    owner: OnlyOwner = None,
    kind: Annotated[list[EventType] | None, typer.Option("--type", help="Only events of this type.")] = None,
    as_json: AsJson = False,
) -> None:
    """Forward live events from now on, until Ctrl-C, and print one line for each.

    The events come from the gateway (GET /events), one after the other. An event that the URL does not accept is sent
    up to five times, within about eight seconds; then the next one follows.
    """
    base_url = gateway or load_settings(root).public_base_url
    run(_listen(base_url, forward_to, owner, [each.value for each in kind or []], Output(as_json)))


async def _listen(base_url: str, url: str, owner: Owner | None, types: list[str], output: Output) -> None:
    owners = [(owner.type, owner.id)] if owner else []
    async with AsyncClient(base_url) as client, httpx.AsyncClient() as http:
        try:
            position = await client.events_position()
            output.say(f"Events of {base_url} go to {url}. Ctrl-C ends.")
            async with aclosing(client.events(owners=owners, types=types, position=position)) as events:
                async for event in events:
                    if isinstance(event, Resync):
                        output.say("Events may be missing: the gateway no longer has them.")
                        continue
                    show(await forward(http, url, decode_event(json.dumps(event.data).encode())), output)
        except ClientError as error:
            raise ImagepipeError(f"{base_url} cannot be followed: {error}") from error


@app.command()
def trigger(
    kind: Annotated[EventType, typer.Argument(metavar="TYPE", help="Such as image.ready.")],
    forward_to: ForwardTo,
    owner: OnlyOwner = None,
    as_json: AsJson = False,
) -> None:
    """Send one example event of this type to the URL, to try a handler without an upload.

    It is the published example with a new image id. Its URLs lead nowhere. It goes to the URL alone: nothing is written
    to Kafka, because in the topics each event is the answer to a command.
    """
    delivery = run(_trigger(example_event(kind.value, owner), forward_to))
    show(delivery, Output(as_json))
    if not delivery.accepted:
        raise typer.Exit(DIFFERENCES_FOUND)


async def _trigger(event: Event, url: str) -> Delivery:
    async with httpx.AsyncClient() as http:
        return await forward(http, url, event)


def example_event(kind: str, owner: Owner | None) -> Event:
    """The published example, with a new image id in every field, and with this owner."""
    value: dict[str, Any] = example(kind)["value"]
    text = json.dumps(value).replace(value["image_id"], str(new_id()))
    event = decode_event(text.encode())
    return event.model_copy(update={"owner": owner}) if owner else event


def show(delivery: Delivery, output: Output) -> None:
    """Print what became of an event."""
    if output.as_json:
        output.json_line(
            {
                "type": delivery.event.type,
                "image_id": str(delivery.event.image_id),
                "status": delivery.status,
                "error": delivery.error,
                "attempts": delivery.attempts,
                "seconds": round(delivery.seconds, 3),
            }
        )
    else:
        output.line(delivery.line())
