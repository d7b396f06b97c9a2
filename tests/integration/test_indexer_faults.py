"""The indexer as a process on real engines: killed, ended, without its engines, with invalid records and a fence."""

import signal
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from shared.cassandra.index import CassandraIndex
from shared.contract.encoding import decode_command, encode
from shared.contract.events import Deleted
from shared.contract.headers import VERSION_HEADER
from shared.contract.keys import Owner, new_id
from shared.contract.logged_command import LoggedRenderCommand
from shared.observability.metrics import Service
from shared.observability.tracing import TRACEPARENT
from shared.read_model.documents import status
from shared.read_model.tables import command_writes
from shared.settings import Settings, Topic
from tests.support import records
from tests.support.api import Api
from tests.support.engines.stack import Stack
from tests.support.isolation import isolated
from tests.support.log import Publisher, committed, publisher, read_records, wait_committed
from tests.support.processes.service import ServiceProcess
from tests.support.waiting import wait_for_async

UPLOADS = 30


@pytest.fixture(scope="module")
def keyspace(engines: Settings) -> Iterator[Settings]:
    with isolated(engines, keyspace=True) as found:
        yield found


@pytest.fixture
def settings(keyspace: Settings) -> Iterator[Settings]:
    name = keyspace.cassandra_keyspace
    with isolated(
        keyspace,
        topics=True,
        topic_partitions=2,
        kafka_session_timeout=timedelta(seconds=6),
        outage_retry_limit=timedelta(seconds=3),
    ) as found:
        yield found.model_copy(update={"cassandra_keyspace": name})


@pytest.fixture
async def index(settings: Settings) -> AsyncIterator[CassandraIndex]:
    found = await CassandraIndex.open(settings)
    yield found
    await found.close()


@pytest.fixture
async def log(settings: Settings) -> AsyncIterator[Publisher]:
    async with publisher(settings) as found:
        yield found


@pytest.fixture
def indexer(settings: Settings, tmp_path: Path) -> Iterator[ServiceProcess]:
    found = ServiceProcess(Service.INDEXER, settings, tmp_path / "indexer.log")
    yield found
    found.end()


def metric(indexer: ServiceProcess, name: str) -> float:
    """Sum of a metric over all its labels."""
    lines = [line for line in indexer.get("metrics")[1].splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def applied(indexer: ServiceProcess) -> float:
    return metric(indexer, "imagepipe_indexer_records_total")


async def publish_uploads(log: Publisher, owner: Owner, count: int) -> list[LoggedRenderCommand]:
    uploads = [records.uploaded(owner=owner) for _ in range(count)]
    versions = await log.commands(uploads)
    return [LoggedRenderCommand(*each) for each in zip(uploads, versions, strict=True)]


async def publish_answers(log: Publisher, uploads: list[LoggedRenderCommand]) -> None:
    answers = []
    for upload in uploads:
        command = upload.command
        answers.append(records.ready(command.image_id, command.revision, upload.version, owner=command.owner))
    await log.events(answers)


async def check_all_ready(index: CassandraIndex, owner: Owner, uploads: list[LoggedRenderCommand]) -> None:
    rows = await index.of_owner(owner, limit=5000)
    assert sorted(row.image_id for row in rows) == sorted(upload.command.image_id for upload in uploads)
    assert all(status(row) == "ready" for row in rows)
    versions = {upload.command.image_id: upload.version for upload in uploads}
    assert all(row.image_version == versions[row.image_id] for row in rows)


def test_indexer_killed_during_uploads_lists_every_image_once(stack: Stack) -> None:
    """With gateway, processor, and the indexer that the supervisor restarts."""
    user = str(new_id())
    with Api(stack.base_url) as api:
        ids = [api.upload(user_id=user)["image_id"] for _ in range(UPLOADS // 2)]
        old = stack.kill("indexer")
        ids += [api.upload(user_id=user)["image_id"] for _ in range(UPLOADS // 2)]
        stack.wait_restarted("indexer", old)
        assert {api.settled(image_id)["status"] for image_id in ids} == {"ready"}
        listed = api.get(
            "/images", params={"user_id": user, "limit": "100"}, headers={"Cache-Control": "no-cache"}
        ).json()
    assert [image["image_id"] for image in listed] == ids[::-1]


async def test_indexer_killed_with_a_backlog_loses_nothing(
    settings: Settings, index: CassandraIndex, log: Publisher, indexer: ServiceProcess
) -> None:
    owner = Owner(type="user", id=str(new_id()))
    uploads = await publish_uploads(log, owner, 600)
    await publish_answers(log, uploads)
    indexer.start()
    await wait_for_async(lambda: applied(indexer) > 50, 30, "50 records applied", pause=0.02)
    indexer.signal(signal.SIGKILL)
    indexer.wait_ended()
    assert sum((await committed(settings, settings.indexer_group)).values()) < 1200, (
        "everything was committed already, so the test proves nothing"
    )
    indexer.start()
    await wait_committed(settings, settings.indexer_group, 1200)
    await check_all_ready(index, owner, uploads)


async def test_sigterm_ends_the_indexer_in_seconds_and_commits_settled_records(
    settings: Settings, log: Publisher, indexer: ServiceProcess
) -> None:
    indexer.start()
    await indexer.wait_ready_async()
    await publish_uploads(log, Owner(type="user", id="1"), 20)
    await wait_for_async(lambda: applied(indexer) == 20, 30, "every record applied")
    indexer.signal(signal.SIGTERM)
    assert indexer.wait_ended(15) == 0
    assert sum((await committed(settings, settings.indexer_group)).values()) == 20


async def test_second_worker_takes_over_and_nothing_is_lost(
    settings: Settings, index: CassandraIndex, log: Publisher, indexer: ServiceProcess, tmp_path: Path
) -> None:
    owner = Owner(type="user", id=str(new_id()))
    indexer.start()
    await indexer.wait_ready_async()
    uploads = await publish_uploads(log, owner, 200)
    second = ServiceProcess(Service.INDEXER, settings, tmp_path / "second.log")
    second.start()
    try:
        await publish_answers(log, uploads)
        await second.wait_ready_async()
        indexer.signal(signal.SIGTERM)
        assert indexer.wait_ended() == 0
        await wait_committed(settings, settings.indexer_group, 400)
        await check_all_ready(index, owner, uploads)
    finally:
        second.end()


async def test_invalid_records_are_dead_lettered_or_skipped_and_stop_no_other(
    settings: Settings, index: CassandraIndex, log: Publisher, indexer: ServiceProcess
) -> None:
    owner = Owner(type="user", id=str(new_id()))
    await log.raw(Topic.EVENTS, b"\xffnot json", b"key", [("ce_type", b"image.ready")])
    await log.raw(Topic.EVENTS, b'{"type":"image.ready","schema_version":2}')
    await log.raw(Topic.EVENTS, b'{"type":"image.ready","padding":"' + b"x" * 1_000_000 + b'"}')
    await log.raw(Topic.EVENTS, None, b"tombstone")
    await log.raw(Topic.COMMANDS, b'{"type": "image.unheard"}')
    await log.raw(Topic.COMMANDS, None)
    await log.raw(Topic.COMMANDS, encode(records.uploaded()), headers=[(VERSION_HEADER, b"9" * 5000)])
    await log.raw(Topic.COMMANDS, b"{}", headers=[(VERSION_HEADER, None), (TRACEPARENT, None)])
    uploads = await publish_uploads(log, owner, 3)
    await publish_answers(log, uploads)
    indexer.start()
    await wait_committed(settings, settings.indexer_group, 14)
    await check_all_ready(index, owner, uploads)
    dead_letters = await read_records(settings, Topic.DLQ, 3)
    assert max(len(dead.value) for dead in dead_letters) > 1_000_000, "the record is unchanged, even a large one"
    [dead] = [dead for dead in dead_letters if dead.key == b"key"]
    headers = {name: value.decode() for name, value in dead.headers}
    assert (dead.key, dead.value) == (b"key", b"\xffnot json")
    assert headers["ce_type"] == "image.ready"
    assert headers["dlq-source-topic"] == settings.topic(Topic.EVENTS)
    assert headers["dlq-source-offset"] == "0"
    assert headers["dlq-attempts"] == "1"
    assert "PoisonRecord" in headers["dlq-error"]
    assert "decode_event" in headers["dlq-stack"]
    assert len(indexer.logged("command_skipped")) == 4
    assert 'result="skipped",topic="images.commands",type="unreadable"} 4.0' in indexer.get("metrics")[1]


async def test_too_many_dead_letters_stop_the_indexer(settings: Settings, log: Publisher, tmp_path: Path) -> None:
    limited = ServiceProcess(
        Service.INDEXER, settings.model_copy(update={"dlq_limit_per_minute": 3}), tmp_path / "limited.log"
    )
    for _ in range(5):
        await log.raw(Topic.EVENTS, b"{}")
    limited.start()
    try:
        assert limited.wait_ended() == 1
        assert "3 records were written to the DLQ within a minute" in limited.logged("service_failed")[0]["error"]
        # Nothing is committed, so every one of them is delivered again.
        assert await committed(settings, settings.indexer_group) == {}
    finally:
        limited.end()


async def test_missing_topics_are_reported(settings: Settings, tmp_path: Path) -> None:
    lost = ServiceProcess(
        Service.INDEXER, settings.model_copy(update={"topic_prefix": "nowhere."}), tmp_path / "lost.log"
    )
    lost.start()
    try:
        assert lost.wait_ended() == 2
        assert "nowhere.images.commands" in lost.logged("service_failed")[0]["error"]
    finally:
        lost.end()


@pytest.mark.parametrize(
    "away", [{"cassandra_port": 1}, {"kafka_bootstrap_servers": "127.0.0.1:1"}], ids=["cassandra", "kafka"]
)
async def test_unavailable_engine_ends_the_indexer(settings: Settings, tmp_path: Path, away: dict[str, object]) -> None:
    alone = ServiceProcess(Service.INDEXER, settings.model_copy(update=away), tmp_path / "alone.log")
    alone.start()
    try:
        assert alone.wait_ended(60) == 1
        assert alone.logged("service_failed")
    finally:
        alone.end()


class TestFence:
    """Invariant 9, at `owner.cleared`, with the live group."""

    async def deletes(self, settings: Settings) -> set[UUID]:
        """Images with a delete in the log. A fence that was retried has published some of them twice."""
        count = sum(
            at
            for (topic, _), at in (await committed(settings, settings.indexer_group)).items()
            if topic.endswith(Topic.COMMANDS)
        )
        commands = [decode_command(record.value) for record in await read_records(settings, Topic.COMMANDS, count)]
        return {command.image_id for command in commands if isinstance(command, Deleted)}

    async def test_images_below_the_fence_are_deleted_through_the_log(
        self, settings: Settings, index: CassandraIndex, log: Publisher, indexer: ServiceProcess
    ) -> None:
        owner, other = (Owner(type="user", id=str(new_id())) for _ in range(2))
        # More than a page of them.
        old = await publish_uploads(log, owner, 130)
        kept = await publish_uploads(log, owner, 1)
        others = await publish_uploads(log, other, 3)
        new = await publish_uploads(log, owner, 2)
        [fence] = await log.commands([records.cleared(new[0].version, (kept[0].command.image_id,), owner)])
        after = await publish_uploads(log, owner, 2)
        indexer.start()
        # The commands, and at least one delete for each deleted image.
        await wait_committed(settings, settings.indexer_group, 139 + 130)
        left = {row.image_id for row in await index.of_owner(owner, limit=1000)}
        assert left == {each.command.image_id for each in (*kept, *new, *after)}
        assert len(await index.of_owner(other)) == len(others)
        assert await self.deletes(settings) == {each.command.image_id for each in old}
        assert [entry["version"] for entry in indexer.logged("owner_cleared")] == [str(fence)]

    async def test_fence_without_before_deletes_everything_below_itself(
        self, settings: Settings, index: CassandraIndex, log: Publisher, indexer: ServiceProcess
    ) -> None:
        owner = Owner(type="user", id=str(new_id()))
        uploads = await publish_uploads(log, owner, 5)
        await publish_answers(log, uploads)
        await log.commands([records.cleared(owner=owner)])
        indexer.start()
        await wait_committed(settings, settings.indexer_group, 5 + 5 + 1 + 5)
        # Answers are in the other topic, and may be read after the fence: deletions shadow them.
        assert list(await index.of_owner(owner)) == []

    async def test_fence_of_a_killed_indexer_is_finished_later(
        self, settings: Settings, index: CassandraIndex, log: Publisher, indexer: ServiceProcess
    ) -> None:
        owner = Owner(type="user", id=str(new_id()))
        uploads = await publish_uploads(log, owner, 300)
        # The rows exist already, so that the fence can begin at once.
        for upload in uploads:
            await index.apply(command_writes(upload, settings.day_shards))
        await log.commands([records.cleared(owner=owner)])
        indexer.start()
        await wait_for_async(
            lambda: metric(indexer, "imagepipe_indexer_fence_deletions_total") > 20, 30, "20 deletions", pause=0.02
        )
        indexer.signal(signal.SIGKILL)
        indexer.wait_ended()
        assert list(await index.of_owner(owner)) != [], "the fence was carried out already, so the test proves nothing"
        indexer.start()
        await wait_for_async(lambda: indexer.logged("owner_cleared"), 60, "the fence is carried out")
        assert list(await index.of_owner(owner)) == []
        indexer.signal(signal.SIGTERM)
        assert indexer.wait_ended() == 0
