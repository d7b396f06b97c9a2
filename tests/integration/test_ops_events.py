"""`imagepipe events listen` and `trigger`: what arrives at a hook, and what does not arrive in Kafka."""

import json
import secrets
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ops.log.reader import TopicReader
from shared.settings import Settings, Topic
from tests.support.api import JPEG, Api
from tests.support.engines.stack import Stack
from tests.support.processes.environment import environment
from tests.support.processes.imagepipe import imagepipe_json, running_imagepipe
from tests.support.waiting import wait_for

SECONDS = 60.0


class Hook(HTTPServer):
    """Answers the first request 503, and then 204. Keeps type and subject of what it has accepted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = 0
        self.accepted: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        if self.server.asked > 1:
            assert (body["type"], body["image_id"]) == (self.headers["ce-type"], self.headers["ce-subject"])
            self.server.accepted.append((body["type"], body["image_id"]))
        self.send_response(204 if self.server.asked > 1 else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.shutdown()
    server.server_close()


def test_live_events_are_forwarded_until_ctrl_c(api: Api, stack: Stack, hook: Hook) -> None:
    owner = secrets.token_hex(8)
    arguments = ("events", "listen", "--forward-to", hook.url, "--owner", f"user:{owner}")
    with running_imagepipe(environment(stack.settings), *arguments) as listener:
        assert listener.stdout is not None
        assert listener.stderr is not None
        assert hook.url in listener.stderr.readline()
        image_id = api.upload(JPEG, user_id=owner)["image_id"]
        api.upload(JPEG, user_id=secrets.token_hex(8))
        wait_for(lambda: hook.accepted, SECONDS, "the first event at the hook")
        api.delete(f"/images/{image_id}").raise_for_status()
        wait_for(lambda: len(hook.accepted) > 1, SECONDS, "the second event at the hook")
        first, second = (listener.stdout.readline().rstrip() for _ in range(2))
        listener.send_signal(signal.SIGINT)
        listener.communicate(timeout=SECONDS)
    assert hook.accepted == [("image.ready", image_id), ("image.removed", image_id)]
    assert listener.returncode == 130
    assert (first[0], first[-3:], second[0]) == ("✓", " x2", "✓")
    assert all(len(line) <= 80 for line in (first, second))


async def _ends(settings: Settings) -> int:
    async with TopicReader(settings, Topic.EVENTS) as reader:
        return sum((await reader.ends()).values())


async def test_a_triggered_event_reaches_the_hook_alone(space: Settings, hook: Hook) -> None:
    sent = imagepipe_json(space, "events", "trigger", "image.ready", "--forward-to", hook.url, "--owner", "user:1")
    assert (sent["status"], sent["attempts"], hook.accepted) == (204, 2, [("image.ready", sent["image_id"])])
    assert await _ends(space) == 0
