"""A rebuild from manifests alone: an image exists again if it has a manifest of any of its commands."""

from typing import cast
from uuid import UUID

from ops.index.rebuild import Rebuild
from ops.terminal.output import Output
from shared.cassandra.index import CassandraIndex
from shared.contract.encoding import encode
from shared.contract.events import Manifest, Ready
from shared.contract.keys import manifest_key, new_id, original_key, tombstone_key
from shared.read_model.documents import status
from shared.s3.store import S3Store
from shared.settings import Settings
from tests.support import records
from tests.support.memory.ports import MemoryIndex, MemoryStore


class Bucket(MemoryStore):
    """A bucket of manifests, without variants."""

    async def add(self, event: Ready) -> UUID:
        manifest = Manifest(render=event.current.render, event=event)
        key = manifest_key(event.image_id, event.request.revision, manifest.render)
        await self.put(key, encode(manifest), "application/json")
        return event.image_id


async def rebuilt(store: MemoryStore) -> tuple[MemoryIndex, Rebuild]:
    index = MemoryIndex()
    rebuild = Rebuild(Settings(_env_file=None), cast(CassandraIndex, index), cast(S3Store, store), Output(True))
    await rebuild.from_bucket()
    return index, rebuild


async def test_image_whose_upload_left_no_manifest_exists_from_a_later_one() -> None:
    """The upload is a dead letter, or its original was lost; the replacement is ready."""
    store = Bucket()
    image_id = await store.add(records.ready(new_id(), new_id(), 30, answers="image.replaced", image_version=10))
    index, _ = await rebuilt(store)
    row = await index.image(image_id)
    assert row is not None
    assert (row.image_version, status(row)) == (10, "ready")
    assert [row] == list(await index.of_owner(records.OWNER))


async def test_image_exists_from_the_manifest_of_a_reprocess_alone() -> None:
    store = Bucket()
    answer = records.ready(new_id(), new_id(), 30, answers="image.reprocess", image_version=10, revision_version=10)
    image_id = await store.add(answer)
    index, _ = await rebuilt(store)
    row = await index.image(image_id)
    assert row is not None
    assert (row.image_version, row.request, row.current, status(row)) == (10, None, answer.current, "ready")


async def test_deleted_images_and_images_without_a_manifest_are_left_out() -> None:
    store = Bucket()
    deleted = await store.add(records.ready(new_id(), new_id(), 10))
    await store.put(tombstone_key(deleted), b'{"version": 21}', "application/json")
    await store.put(original_key(new_id(), new_id(), "image/png"), b"png", "image/png")
    index, rebuild = await rebuilt(store)
    assert list(await index.row_ids(records.OWNER)) == []
    assert (rebuild.done.images, rebuild.done.skipped_deleted, rebuild.done.originals_without_manifest) == (0, 1, 1)
