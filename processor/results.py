"""Reads and writes the results in the bucket: variants, manifests and markers, written once, and tombstones."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from processor.rendering.render import RenderedVariant
from processor.rendering.variant_file import size_of
from shared.contract.encoding import decode_manifest, encode
from shared.contract.events import Manifest, Ready, Variant
from shared.contract.keys import (
    MAX_BIGINT,
    image_prefix,
    manifest_key,
    tombstone_key,
    variant_key,
)
from shared.contract.ladder import MAX_SIDE
from shared.contract.logged_command import LoggedRenderCommand
from shared.contract.untrusted_json import read_json
from shared.errors import ImageRejected, NotFound, PoisonRecord, PreconditionFailed, Unavailable
from shared.ports import ObjectStore
from shared.read_model.documents import media_url


async def read_tombstone(store: ObjectStore, image_id: UUID) -> int | None:
    """Version of the deletion, which is the version of an answer; None if the image is not deleted.

    Raises PoisonRecord, Unavailable.
    """
    try:
        data = await store.get(tombstone_key(image_id))
    except NotFound:
        return None
    try:
        version = int(read_json(data)["version"])
        if not 0 <= version <= MAX_BIGINT:
            raise ValueError("not a version")
        return version
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise PoisonRecord(f"{tombstone_key(image_id)} is not a tombstone: {error!r}") from error


async def put_tombstone(store: ObjectStore, image_id: UUID, version: int) -> int:
    """Write a tombstone with at least `version`; returns the version that it has. Raises Unavailable.

    A worker that the group has removed may still run, and write a lower version late. So this function reads again
    after each write, and writes again if the version is too low. Both workers then answer with the higher version
    (invariant 6).
    """
    stored = await read_tombstone(store, image_id)
    while stored is None or stored < version:
        await store.put(tombstone_key(image_id), json.dumps({"version": str(version)}).encode(), "application/json")
        stored = await read_tombstone(store, image_id)
    return stored


async def delete_image(store: ObjectStore, image_id: UUID) -> None:
    """Delete all objects of the image except its tombstone, one page of the listing after the other."""
    # A worker that the group has removed may still write during the deletion, so repeat until the listing is empty.
    while (page := await store.page(image_prefix(image_id)))[0]:
        await store.delete([item.key for item in page[0]])


async def read_manifest(store: ObjectStore, key: str) -> Manifest | None:
    """A manifest; None if there is none. Raises PoisonRecord, Unavailable."""
    try:
        return decode_manifest(await store.get(key))
    except NotFound:
        return None


async def write_manifest(store: ObjectStore, manifest: Manifest) -> Manifest:
    """Write the manifest, unless there is one already; returns the stored one (invariant 3).

    If two workers render the same command, both return the manifest that was written first. Raises Unavailable, also if
    that manifest was deleted again: the command is then retried from the beginning.
    """
    event = manifest.event
    key = manifest_key(event.image_id, event.request.revision, manifest.render)
    try:
        await store.put(key, encode(manifest), "application/json", if_absent=True)
    except PreconditionFailed:
        winner = await read_manifest(store, key)
        if winner is None:
            raise Unavailable("s3", f"{key} was deleted between a write and a read") from None
        return winner
    return manifest


async def mark_ready(store: ObjectStore, manifest: Manifest) -> None:
    """Write the marker of a ready render. A failed render has none. Repeating it changes nothing. Raises Unavailable.

    Call it after the manifest is stored, and read the tombstone afterwards: a deletion may have missed the marker.
    """
    if isinstance(manifest.event, Ready):
        await put_empty(store, manifest.marker.key)


async def put_empty(store: ObjectStore, key: str) -> None:
    """Write an empty object, unless there is one already. Raises Unavailable."""
    with suppress(PreconditionFailed):
        await store.put(key, b"", "application/octet-stream", if_absent=True)


async def write_variants(
    store: ObjectStore, logged: LoggedRenderCommand, rendered: Sequence[RenderedVariant], base_url: str
) -> tuple[Variant, ...]:
    """Write the variants concurrently, each unless it exists; returns the stored ones in the given order.

    Raises Unavailable, and only after every write has ended. A write in a thread cannot be cancelled. It could reach
    the bucket after the next attempt has found a tombstone and deleted the revision, and the object would then stay.
    """

    async def write(variant: RenderedVariant) -> Variant:
        path = variant_key(
            logged.command.image_id, logged.command.revision, logged.render, variant.name, variant.content_type
        )
        return await _write_variant(store, variant, path, media_url(base_url, path))

    written = await asyncio.gather(*map(write, rendered), return_exceptions=True)
    errors = [each for each in written if isinstance(each, BaseException)]
    if errors:
        raise errors[0]
    return tuple(each for each in written if isinstance(each, Variant))


async def _write_variant(store: ObjectStore, variant: RenderedVariant, path: str, url: str) -> Variant:
    data, width, height, sha256 = variant.data, variant.width, variant.height, variant.sha256
    try:
        await store.put(path, data, variant.content_type, if_absent=True)
    except PreconditionFailed:
        data = await _read_stored(store, path)
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != variant.sha256:
            width, height = _dimensions(data, variant.content_type, path)
    return Variant(
        name=variant.name,
        path=path,
        url=url,
        content_type=variant.content_type,
        width=width,
        height=height,
        size=len(data),
        sha256=sha256,
    )


async def _read_stored(store: ObjectStore, path: str) -> bytes:
    try:
        return await store.get(path)
    except NotFound:
        raise Unavailable("s3", f"{path} was deleted between a write and a read") from None


def _dimensions(data: bytes, content_type: str, path: str) -> tuple[int, int]:
    """Size in pixels of a stored variant. An earlier attempt with other library versions wrote it."""
    try:
        return size_of(data, content_type, max_pixels=MAX_SIDE**2, max_side=MAX_SIDE)
    except ImageRejected as error:
        raise PoisonRecord(f"the stored variant {path} is not an image: {error}") from error
