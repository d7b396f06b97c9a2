"""Waits until a recovered stack has nothing left to do, and reads everything that is observable from outside."""

import asyncio
import hashlib
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from aiokafka.errors import KafkaError

from ops.checks.differences import Difference, Kind
from ops.checks.inspection import Inspection
from ops.index.rows import Rows
from ops.log.consumer_groups import consumer_lag
from ops.log.fold import Fold
from ops.log.reader import TopicReader
from ops.terminal.output import Output
from shared.concurrency import map_ordered
from shared.contract.encoding import decode_event
from shared.contract.keys import parse_media_path
from shared.s3.store import S3Store
from shared.settings import Settings, Topic
from tests.faults.history import FinalState, FoundImage
from tests.support.waiting import NotInTimeError, Stopwatch

PAGE = 500
STUCK_AFTER = 90.0
"""Seconds without progress after which a stack counts as stuck."""
AT_ONCE = 16
"""Images whose files are fetched at the same time."""
ONE_REQUEST_EACH = httpx.Limits(max_keepalive_connections=0)
"""A server closes idle connections, sometimes in the moment of their use: without reuse, each error is a real one."""
Document = dict[str, Any]


async def settle(base_url: str, settings: Settings, owners: Iterable[str]) -> float:
    """Wait until both groups have no lag and no image is processing; returns the seconds that this took.

    Raises NotInTimeError if the lag has not decreased for STUCK_AFTER seconds: how long a backlog takes depends on the
    machine, but it always becomes shorter.
    """
    began, progress, least = time.monotonic(), Stopwatch(), sys.maxsize
    owners = list(owners)
    why = "nothing was checked"
    async with httpx.AsyncClient(base_url=base_url, timeout=20) as http:
        while progress.seconds() < STUCK_AFTER:
            try:
                behind = [row for row in await consumer_lag(settings) if row["lag"]]
                lag = sum(row["lag"] for row in behind)
                if lag < least:
                    progress, least = Stopwatch(), lag
                why = f"lag {behind}" if behind else await _processing(http, owners)
            except (httpx.HTTPError, KafkaError, TimeoutError) as error:
                why = repr(error)
            if not why:
                return time.monotonic() - began
            await asyncio.sleep(0.5)
    raise NotInTimeError(f"not settled, and no progress for {STUCK_AFTER:.0f} s: {why}")


async def _processing(http: httpx.AsyncClient, owners: list[str]) -> str:
    for owner in owners:
        for document in await _list(http, owner):
            if document["status"] == "processing" or (document["pending"] or {}).get("status") == "processing":
                return f"{document['image_id']} of {owner} is processing"
    return ""


async def final_state(base_url: str, settings: Settings, owners: Iterable[str]) -> FinalState:
    """The final state: every owner's list, the bucket, the DLQ, and whether each served file can be fetched."""
    async with httpx.AsyncClient(base_url=base_url, timeout=20, limits=ONE_REQUEST_EACH) as http:
        documents = [(owner, document) for owner in owners for document in await _list(http, owner)]
        served = await map_ordered(documents, lambda each: _served(http, each[1]), AT_ONCE)
        unreadable = {document["image_id"] for (_, document), fine in zip(documents, served, strict=True) if not fine}
    return FinalState(
        listed=tuple(_found(owner, document) for owner, document in documents),
        object_keys=await _object_keys(settings),
        dead_letters=await _dead_letters(settings),
        unreadable=frozenset(unreadable),
        disordered=frozenset(map(str, await _disordered(settings))),
    )


async def damage(settings: Settings, before: Collection[str]) -> list[str]:
    """What `imagepipe verify` would report of log, index and bucket, images that were there before left out.

    Unlike there, objects may be of any age, because no open request can still give them a command.
    """
    rows = await Rows.open(settings)
    store = S3Store.from_settings(settings)
    try:
        look = Inspection(settings, rows, store, Output(True), grace=timedelta(0), with_checksums=True)
        found = unexplained(look.fold, await look.settled(await look.run(), 1.0))
        return [str(each) for each in found if str(each.image_id) not in before]
    finally:
        await store.close()
        await rows.close()


def unexplained(fold: Fold, differences: Iterable[Difference]) -> list[Difference]:
    """The differences without originals that the log does not name: requests of unknown outcome may leave some."""
    return [each for each in differences if not (each.kind is Kind.EXTRA and _never_logged(fold, each.where))]


def _never_logged(fold: Fold, key: str) -> bool:
    media = parse_media_path(key)
    if media is None or media.variant is not None:
        return False
    state = fold.images.get(media.image_id)
    return state is None or media.revision not in state.revisions


async def image_ids(settings: Settings) -> set[str]:
    """Ids that have objects in the bucket."""
    return {key.split("/")[1] for key in await _object_keys(settings)}


async def _object_keys(settings: Settings) -> frozenset[str]:
    store = S3Store.from_settings(settings)
    try:
        return frozenset(item.key for item in await store.list("images/"))
    finally:
        await store.close()


async def _list(http: httpx.AsyncClient, owner: str) -> list[Document]:
    """All pages, past the cache. Follows cursors as a client would."""
    owner_type, _, owner_id = owner.partition(":")
    answer = await http.get(
        "/images",
        params={"owner_type": owner_type, "owner_id": owner_id, "limit": PAGE},
        headers={"Cache-Control": "no-cache"},
    )
    found = []
    while True:
        answer.raise_for_status()
        found += answer.json()
        following = answer.links.get("next")
        if following is None:
            return found
        answer = await http.get(following["url"], headers={"Cache-Control": "no-cache"})


async def _served(http: httpx.AsyncClient, document: Document) -> bool:
    for item in (document["original"], *document["variants"]):
        answer = await http.get(httpx.URL(item["url"]).path)
        if answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() != item["sha256"]:
            return False
    return True


def _found(owner: str, document: Document) -> FoundImage:
    pending = document["pending"] or {}
    error = document["error"] or pending.get("error") or {}
    return FoundImage(
        document["image_id"],
        owner,
        document["status"],
        error.get("type"),
        document["original"]["sha256"],
        len(document["variants"]),
    )


async def _disordered(settings: Settings) -> set[UUID]:
    """Images of which a later command was answered before an earlier one. Repeated answers do not count."""
    answered: dict[UUID, set[int]] = defaultdict(set)
    found = set()
    async with TopicReader(settings, Topic.EVENTS) as reader:
        async for batch in reader.read(await reader.beginnings(), await reader.ends()):
            for record in batch:
                event = decode_event(record.value)
                versions = answered[event.image_id]
                if event.version not in versions and event.version < max(versions, default=0):
                    found.add(event.image_id)
                versions.add(event.version)
    return found


async def _dead_letters(settings: Settings) -> int:
    async with TopicReader(settings, Topic.DLQ) as reader:
        begins, ends = await reader.beginnings(), await reader.ends()
    return sum(ends[partition] - begins[partition] for partition in ends)
