"""`If-Match` on PUT and DELETE of an image: an update does not overwrite one that its client has not seen."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from gateway.http.preconditions import required_versions
from gateway.http.problems import Problem
from gateway.services import succession as module
from gateway.services.succession import Successions
from shared.contract.events import Deleted, Replaced
from shared.contract.keys import new_id
from shared.errors import Unavailable, UnknownOutcome
from shared.read_model.documents import version
from shared.read_model.tables import event_writes
from tests.support import records
from tests.support.images import encode, photo
from tests.support.memory.gateway import MemoryClaimTable, MemoryGateway

PNG = encode(photo(40, 30), "PNG")
JPEG = encode(photo(64, 48), "JPEG")
LEASE = timedelta(seconds=60)


class Scene:
    def __init__(self, gateway: MemoryGateway, client: httpx.AsyncClient, document: dict[str, Any]) -> None:
        self.gateway = gateway
        self.client = client
        self.address = f"/images/{document['image_id']}"
        self.document = document

    @property
    def version(self) -> str:
        found: str = self.document["version"]
        return found

    async def put(self, if_match: str, data: bytes = JPEG, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        files = {"image": ("b.jpg", data)}
        return await self.client.put(self.address, files=files, headers={"If-Match": if_match, **sent})

    async def delete(self, if_match: str) -> httpx.Response:
        return await self.client.delete(self.address, headers={"If-Match": if_match})

    async def metadata(self) -> httpx.Response:
        return await self.client.get(f"{self.address}/metadata")


@pytest.fixture
async def scene() -> Any:
    gateway = MemoryGateway()
    async with gateway.client() as client:
        document = (await client.post("/images?user_id=1", files={"image": ("a.png", PNG)})).json()
        yield Scene(gateway, client, document)


async def test_documents_and_lists_have_the_version_and_a_replacement_changes_it(scene: Scene) -> None:
    read = (await scene.metadata()).json()
    [listed] = (await scene.client.get("/images?user_id=1")).json()
    assert read["version"] == listed["version"] == scene.version
    replaced = await scene.put(f'"{scene.version}"')
    assert replaced.status_code == 202
    assert replaced.json()["version"] != scene.version
    assert (await scene.metadata()).json()["version"] == replaced.json()["version"]


async def test_a_result_does_not_change_the_version_and_its_event_names_it(scene: Scene) -> None:
    command, offset = scene.gateway.log.commands[0], 0
    event = records.ready(
        UUID(scene.document["image_id"]), command.revision, scene.gateway.settings.epoch << 52 | offset << 1,  # type: ignore[union-attr]
        owner=command.owner,
    )  # fmt: skip
    await scene.gateway.index.apply(event_writes(event, scene.gateway.settings.day_shards))
    row = await scene.gateway.index.image(event.image_id)
    assert row is not None
    assert row.current is not None
    assert version(row) == scene.version == str(event.request.revision_version)


@pytest.mark.parametrize("method", ["put", "delete"])
async def test_an_update_of_an_older_version_is_refused(scene: Scene, method: str) -> None:
    old = scene.version
    assert (await scene.put(f'"{old}"')).status_code == 202
    commands = list(scene.gateway.log.commands)
    answer = await getattr(scene, method)(f'"{old}"')
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert answer.json()["version"] == (await scene.metadata()).json()["version"]
    assert scene.gateway.log.commands == commands


async def test_the_etag_of_the_document_is_a_condition_too(scene: Scene) -> None:
    etag = (await scene.metadata()).headers["etag"]
    assert etag.startswith(f'"{scene.version}-')
    assert (await scene.put(etag)).status_code == 202
    assert (await scene.delete(etag)).status_code == 412
    etag = (await scene.metadata()).headers["etag"]
    assert (await scene.delete(f'"1", {etag}')).status_code == 204
    assert isinstance(scene.gateway.log.commands[-1], Deleted)


@pytest.mark.parametrize("condition", ["W/{}", '"{}x"', '""', '"nonsense"'])
async def test_what_is_not_the_version_is_refused(scene: Scene, condition: str) -> None:
    assert (await scene.put(condition.format(f'"{scene.version}"'))).status_code == 412


async def test_a_star_means_any_version_but_not_none(scene: Scene) -> None:
    assert required_versions(["*"]) is None
    assert (await scene.put("*")).status_code == 202
    assert (await scene.delete("*")).status_code == 204
    assert (await scene.delete("*")).status_code == 404
    assert (await scene.put(f'"{scene.version}"')).status_code == 404


async def test_an_image_is_deleted_by_its_url_on_the_same_condition(scene: Scene) -> None:
    query = {"url": scene.document["original"]["url"]}
    for condition, status in (('"1"', 412), (f'"{scene.version}"', 204)):
        answer = await scene.client.delete("/images", params=query, headers={"If-Match": condition})
        assert answer.status_code == status


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_condition_on_all_images_of_an_owner_is_refused(scene: Scene, method: str) -> None:
    files: dict[str, Any] = {"files": {"image": ("b.jpg", JPEG)}} if method == "PUT" else {}
    answer = await scene.client.request(method, "/images?user_id=1", headers={"If-Match": '"1"'}, **files)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert len(scene.gateway.log.commands) == 1


@pytest.mark.parametrize("methods", [("put", "put"), ("put", "delete"), ("put", "put", "put", "delete")])
async def test_of_concurrent_updates_of_one_version_one_succeeds(
    scene: Scene, methods: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All read the row before any of them claims its version."""
    read, all_read = [0], asyncio.Event()
    real = scene.gateway.index.image

    async def image(image_id: UUID) -> Any:
        row = await real(image_id)
        read[0] += 1
        if read[0] == len(methods):
            all_read.set()
        async with asyncio.timeout(10):
            await all_read.wait()
        return row

    monkeypatch.setattr(scene.gateway.index, "image", image)
    answers = await asyncio.gather(*(getattr(scene, method)(f'"{scene.version}"') for method in methods))
    assert sorted(answer.status_code for answer in answers)[1:] == [412] * (len(methods) - 1)
    assert len(scene.gateway.log.commands) == 2


async def test_a_repetition_after_an_unknown_outcome_succeeds(scene: Scene) -> None:
    """The first try is in the log, and its row may be written or not."""
    for lost, written in ((False, False), (True, False), (True, True)):
        read = (await scene.metadata()).json()["version"]
        errors = scene.gateway.log.lost if lost else scene.gateway.log.errors
        errors.append(UnknownOutcome("kafka", "no ack"))
        first = await scene.put(f'"{read}"', Idempotency_Key=f"{lost}{written}")
        assert first.status_code == 503
        if written:
            command = scene.gateway.log.commands[-1]
            assert isinstance(command, Replaced)
            await scene.gateway.services.journal.append(command)
        other = asyncio.create_task(scene.put(f'"{read}"', PNG))
        again = await scene.put(f'"{read}"', Idempotency_Key=f"{lost}{written}")
        assert again.status_code == 202
        assert (await other).status_code == 412


async def test_after_an_unknown_outcome_another_update_waits_for_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.0,))
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    successions = Successions(MemoryClaimTable(), LEASE, lambda: clock[0])
    image_id = new_id()

    async def claim(update: str, error: Exception | None = None) -> None:
        async with successions.claim(image_id, "8", update):
            if error is not None:
                raise error

    with pytest.raises(Unavailable):
        await claim("first", UnknownOutcome("kafka", "no ack"))
    with pytest.raises(Problem) as refused:
        await claim("second")
    assert refused.value.code == "in_flight"
    clock[0] += LEASE
    await claim("second")
    with pytest.raises(Problem) as refused:
        await claim("first")
    assert refused.value.code == "precondition_failed"
    clock[0] += timedelta(hours=20)
    with pytest.raises(Problem):
        await claim("third")
    # The same update may be repeated.
    await claim("second")


async def test_a_request_that_was_refused_leaves_no_claim() -> None:
    table = MemoryClaimTable()
    successions = Successions(table, LEASE)
    with pytest.raises(Problem):
        async with successions.claim(new_id(), "8", "first"):
            raise Problem("not_found", "gone")
    assert table.rows == {}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> MemoryClaimTable:
    monkeypatch.setattr(module, "PAUSES", (0.0,))
    return MemoryClaimTable()


async def test_gateways_with_leases_of_different_lengths_exclude_each_other(table: MemoryClaimTable) -> None:
    image_id = new_id()
    async with Successions(table, LEASE).claim(image_id, "8", "first"):
        with pytest.raises(Problem) as refused:
            async with Successions(table, LEASE / 12).claim(image_id, "8", "second"):
                pytest.fail("both have the claim")
        assert refused.value.code == "in_flight"


async def test_an_update_whose_claim_was_taken_over_is_not_acknowledged(table: MemoryClaimTable) -> None:
    image_id, ahead = new_id(), Successions(table, LEASE, lambda: datetime.now(UTC) + timedelta(hours=1))

    async def overtaken() -> None:
        async with Successions(table, LEASE).claim(image_id, "8", "first"), ahead.claim(image_id, "8", "second"):
            """The second ends before the first."""

    with pytest.raises(Unavailable):
        await overtaken()
    with pytest.raises(Problem) as refused:
        async with Successions(table, LEASE).claim(image_id, "8", "first"):
            pytest.fail("the second has the version")
    assert refused.value.code == "precondition_failed"


async def test_an_update_is_acknowledged_if_the_other_one_was_refused(table: MemoryClaimTable) -> None:
    image_id, ahead = new_id(), Successions(table, LEASE, lambda: datetime.now(UTC) + timedelta(hours=1))
    async with Successions(table, LEASE).claim(image_id, "8", "first"):
        with pytest.raises(Problem):
            async with ahead.claim(image_id, "8", "second"):
                raise Problem("precondition_failed", "the row has another version")
    with pytest.raises(Problem) as refused:
        async with Successions(table, LEASE).claim(image_id, "8", "third"):
            pytest.fail("the first has the version")
    assert refused.value.code == "precondition_failed"


async def test_a_repetition_that_takes_the_claim_over_does_not_refuse_the_first_try(table: MemoryClaimTable) -> None:
    image_id, successions = new_id(), Successions(table, LEASE)
    async with successions.claim(image_id, "8", "deletion"), successions.claim(image_id, "8", "deletion"):
        """The repetition ends before the first try."""
