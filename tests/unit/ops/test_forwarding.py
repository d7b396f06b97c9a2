"""Forwarding of events to a developer's URL: CloudEvents over HTTP, repeated, one line each."""

import json
import re

import httpx
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from imagepipe_client import Retry
from ops.commands.events import example_event
from ops.forwarding import forward
from shared.contract.examples import example
from shared.contract.json_schema import EVENTS
from shared.contract.keys import Owner

URL = "http://127.0.0.1:3000/hook"
FAST = Retry(attempts=3, first_pause=0.001, longest_pause=0.01)


def hook(*answers: int | Exception) -> tuple[httpx.AsyncClient, list[httpx.Request]]:
    requests: list[httpx.Request] = []
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)

    return httpx.AsyncClient(transport=httpx.MockTransport(handle)), requests


@pytest.mark.parametrize("kind", sorted(EVENTS))
async def test_the_request_is_a_cloud_event_as_in_kafka(kind: str) -> None:
    http, requests = hook(204)
    event = example_event(kind, Owner(type="album", id="7"))
    delivery = await forward(http, URL, event)
    assert (delivery.accepted, delivery.attempts) == (True, 1)
    [request] = requests
    found = from_http_event(HTTPMessage(headers=dict(request.headers), body=request.content))
    assert (found.get_type(), found.get_subject()) == (kind, str(event.image_id))
    published = example(kind)["headers"]
    assert {name for name in published if name != "traceparent"} == {
        name.replace("ce-", "ce_") for name in request.headers if name.startswith("ce-") or name == "content-type"
    }
    value = json.loads(request.content)
    assert value["owner"] == {"type": "album", "id": "7"}
    assert value.keys() == example(kind)["value"].keys()


def test_an_example_has_a_new_image_everywhere() -> None:
    first, second = (example_event("image.ready", None).model_dump_json() for _ in range(2))
    assert first != second
    assert example("image.ready")["value"]["image_id"] not in first


@pytest.mark.parametrize(
    ("answers", "accepted", "line"),
    [
        ((503, httpx.ConnectError("refused"), 200), True, r"✓ .* 200 \d\.\ds x3"),
        ((404,), False, r"✗ .* 404 \d\.\ds"),
        ((500, 500, 429), False, r"✗ .* 429 \d\.\ds x3"),
        ((httpx.ConnectError("refused"),) * 3, False, r"✗ .* no answer x3"),
    ],
)
async def test_what_is_not_accepted_is_sent_again(
    answers: tuple[int | Exception, ...], accepted: bool, line: str
) -> None:
    http, requests = hook(*answers)
    delivery = await forward(http, URL, example_event("image.superseded", None), FAST)
    assert (delivery.accepted, len(requests)) == (accepted, len(answers))
    assert re.fullmatch(line, delivery.line())
    assert len(delivery.line()) <= 80
    assert len({request.headers["ce-id"] for request in requests}) == 1
