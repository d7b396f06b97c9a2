"""While any one broker, node or service is unavailable, uploads are acknowledged and nothing acknowledged is lost."""

import itertools
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.faults.nemesis import RECOVERY_SECONDS
from tests.support.api import PNG, Api, form
from tests.support.engines.replicas import wait_whole
from tests.support.engines.stack import Stack
from tests.support.processes.halt import stopped

CLIENTS = 4
PATIENCE = 100.0
"""Longer than the lease of an Idempotency-Key, after which an abandoned request can certainly be repeated."""
AWAY_SECONDS = 15.0
"""Longer than the session time-outs of brokers (6 s) and consumers (10 s), so leaders and partitions have moved."""
OWNER_TYPE = "cluster"


@dataclass(frozen=True)
class Sent:
    """One upload. `seconds` include retries."""

    owner: str
    image_id: str | None
    began: float
    seconds: float
    tries: int
    said: str


class Traffic:
    """Uploads without a pause by several clients. After a failed request a client goes to the next gateway."""

    def __init__(self, gateways: tuple[str, ...]) -> None:
        self.sent: list[Sent] = []
        self._gateways = gateways
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)

    def _run(self, number: int) -> None:
        gateways = itertools.islice(itertools.cycle(self._gateways), number, None)
        gateway = next(gateways)
        while not self._stop.wait(0.1):
            owner, began = secrets.token_hex(8), time.monotonic()
            image_id, said = upload(gateway, owner)
            tries = 1
            while image_id is None and time.monotonic() - began < PATIENCE:
                time.sleep(1)
                gateway = next(gateways)
                image_id, said = upload(gateway, owner)
                tries += 1
            self.sent.append(Sent(owner, image_id, began, time.monotonic() - began, tries, said))


def upload(gateway: str, owner: str) -> tuple[str | None, str]:
    """The new image's id, or None if it was not acknowledged; and the answer."""
    try:
        answer = httpx.post(
            f"{gateway}/images",
            params={"owner_type": OWNER_TYPE, "owner_id": owner},
            files=form((f"{owner}.png", PNG)),
            # The owner has one image only, so each retry is the same request under the same key.
            headers={"Idempotency-Key": owner},
            timeout=30,
        )
    except httpx.TransportError as error:
        return None, repr(error)
    return (answer.json()["image_id"] if answer.status_code == 202 else None), f"{answer.status_code} {answer.text}"


def killed(stack: Stack, name: str) -> None:
    stack.wait_restarted(name, stack.kill(name), RECOVERY_SECONDS)


def frozen(stack: Stack, name: str) -> None:
    with stopped(stack.pid(name)):
        time.sleep(AWAY_SECONDS)


@pytest.fixture
def whole(stack: Stack) -> Iterator[None]:
    wait_whole(stack.settings)
    yield
    wait_whole(stack.settings)


AWAY: list[tuple[Callable[[Stack, str], None], str]] = [
    (killed, "kafka-2"), (killed, "cassandra-2"),
    # The first node is the one to which new clients connect first.
    (frozen, "kafka-1"), (frozen, "cassandra-1"),
    (killed, "gateway-1"), (killed, "processor-1"), (killed, "indexer-1"),
]  # fmt: skip


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(("away", "name"), AWAY, ids=[f"{name}-{away.__name__}" for away, name in AWAY])
def test_uploads_are_acknowledged_without(
    stack: Stack, away: Callable[[Stack, str], None], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Traffic(stack.gateways) as traffic:
        time.sleep(1)
        began = time.monotonic()
        away(stack, name)
        ended = time.monotonic()
    meanwhile = [sent for sent in traffic.sent if sent.began < ended and sent.began + sent.seconds > began]
    times = [sent.seconds for sent in meanwhile]
    again = sum(sent.tries > 1 for sent in meanwhile)
    with capsys.disabled():
        print(
            f"\n{name} {away.__name__} for {ended - began:.1f} s: {len(meanwhile)} uploads meanwhile, "
            f"{again} sent again, median {statistics.median(times):.2f} s, longest {max(times):.1f} s"
        )
    assert [sent for sent in traffic.sent if sent.image_id is None] == []
    finished = [sent for sent in meanwhile if sent.began > began and sent.began + sent.seconds < ended]
    assert len(finished) >= CLIENTS, "no upload was acknowledged while it was unavailable"
    check_all_there(stack, traffic.sent)


def check_all_there(stack: Stack, sent: list[Sent]) -> None:
    """Every image is ready, and the only one of its owner, by every gateway's answer."""
    for gateway in stack.gateways:
        with Api(gateway) as api:
            for each in sent:
                assert each.image_id is not None
                assert api.settled(each.image_id)["status"] == "ready"
                assert api.ids_of(owner_type=OWNER_TYPE, owner_id=each.owner) == [each.image_id]
