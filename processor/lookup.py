"""Finds the manifests that decide a command, with few reads even if the image has thousands of revisions (ADR 15)."""

from collections.abc import AsyncIterator
from heapq import nlargest
from uuid import UUID

from processor.results import mark_ready, put_empty, read_manifest
from shared.concurrency import for_each, map_ordered
from shared.contract.events import Manifest, Ready
from shared.contract.keys import (
    MANIFEST_NAME,
    Marker,
    image_prefix,
    is_manifest,
    manifest_key,
    markers_complete_key,
    markers_prefix,
    parse_marker,
    parse_object_key,
    reprocess_version,
    revision_prefix,
)
from shared.contract.logged_command import LoggedRenderCommand
from shared.ports import ObjectStore

FIRST_PAGE = 50
"""Objects of the first page of an image's listing. An image has seven objects, and seven more for each further
revision, of which two are left after the sweep. So the first page has all objects of most images."""
MANIFESTS_AT_ONCE = 8
"""Manifests of one image that are read concurrently. It is half of the default number of S3 threads, so that an image
with thousands of revisions does not use all threads."""


async def find_manifests(
    store: ObjectStore, logged: LoggedRenderCommand, *, trust_markers: bool = True
) -> list[Manifest]:
    """The manifests that `decide` needs for this command. Raises PoisonRecord, Unavailable.

    1. If the first page lists the whole image, the result has all manifests.
    2. Otherwise the result has the command's own manifest, the latest one of the same revision that is later, and the
       latest ready one of the other revisions. No other manifest changes the decision. Markers find the last of the
       three with one listing. They are first completed if they are not known to be complete, or not `trust_markers`.
    3. A worker may have crashed after it wrote the command's own manifest and before the marker, so this function
       writes that marker. The caller must read the tombstone afterwards, because a deletion may have missed it.
    """
    image_id = logged.command.image_id
    page, token = await store.page(image_prefix(image_id), limit=FIRST_PAGE)
    if token is None:
        found = await _read_all(store, [info.key for info in page if is_manifest(info.key)])
    else:
        if not trust_markers or page[0].key != markers_complete_key(image_id):
            await complete_markers(store, image_id)
        found = [*await _of_revision(store, logged), *await _latest_of_others(store, logged)]
    listed = {info.key for info in page}
    for manifest in found:
        if _is_own(manifest, logged) and manifest.marker.key not in listed:
            await mark_ready(store, manifest)
    return found


async def complete_markers(store: ObjectStore, image_id: UUID) -> None:
    """Write the markers that `find_manifests` needs, from all manifests. Raises PoisonRecord, Unavailable.

    For every revision the latest ready render of the other revisions must have a marker. These are at most two: the
    latest of all, and the latest of another revision. Images that were stored by a version without markers need this
    once. The caller must read the tombstone afterwards, because a deletion may have missed the markers.
    """
    latest: dict[UUID, Marker] = {}

    async def read(key: str) -> None:
        manifest = await read_manifest(store, key)
        if manifest is not None and isinstance(manifest.event, Ready):
            marker = manifest.marker
            latest[marker.revision] = max(marker, latest.get(marker.revision, marker), key=_precedence)

    await for_each(_manifest_keys(store, image_id), read, MANIFESTS_AT_ONCE)
    for marker in nlargest(2, latest.values(), key=_precedence):
        await put_empty(store, marker.key)
    await put_empty(store, markers_complete_key(image_id))


def _precedence(marker: Marker) -> tuple[int, int]:
    return marker.precedence


async def _manifest_keys(store: ObjectStore, image_id: UUID) -> AsyncIterator[str]:
    token = None
    while True:
        page, token = await store.page(image_prefix(image_id), token)
        for info in page:
            if is_manifest(info.key):
                yield info.key
        if token is None:
            return


async def _read_all(store: ObjectStore, keys: list[str]) -> list[Manifest]:
    found = await map_ordered(keys, lambda key: read_manifest(store, key), MANIFESTS_AT_ONCE)
    # A manifest may be deleted after the listing, with the image.
    return [manifest for manifest in found if manifest is not None]


async def _of_revision(store: ObjectStore, logged: LoggedRenderCommand) -> list[Manifest]:
    """The command's own manifest, and a ready one of the same revision that is later, if there is one.

    Only a reprocess renders a revision again, and its folder's name has its version. So the folders that may be later
    are known from the listing. They are read from the latest to the earliest, until one is ready.
    """
    image_id, revision = logged.command.image_id, logged.command.revision
    listed = await store.list(revision_prefix(image_id, revision))
    keys = [parse_object_key(info.key) for info in listed]
    renders = {key.render for key in keys if key and key.render and key.name == MANIFEST_NAME}
    found = []
    since = logged.version
    if logged.render in renders:
        own = await read_manifest(store, manifest_key(image_id, revision, logged.render))
        if own is not None:
            found.append(own)
            since = own.event.version
    for render in sorted(renders - {logged.render}, key=_latest_first):
        version = reprocess_version(render)
        if version is not None and version <= since:
            break
        manifest = await read_manifest(store, manifest_key(image_id, revision, render))
        if manifest is not None and isinstance(manifest.event, Ready):
            found.append(manifest)
            if version is not None:
                break
    return found


def _latest_first(render: str) -> int:
    """Sort key. The version of a folder without one is unknown, so it comes first.

    There are such folders if an upload was appended twice and the ladder was changed in between.
    """
    version = reprocess_version(render)
    return -1 << 63 if version is None else -version


async def _latest_of_others(store: ObjectStore, logged: LoggedRenderCommand) -> list[Manifest]:
    """The latest ready manifest of the other revisions. A marker without a ready manifest has no effect."""
    async for marker in _markers(store, logged.command.image_id):
        if marker.revision != logged.command.revision:
            manifest = await read_manifest(store, marker.manifest_key)
            if manifest is not None and isinstance(manifest.event, Ready):
                return [manifest]
    return []


async def _markers(store: ObjectStore, image_id: UUID) -> AsyncIterator[Marker]:
    """The markers of the image, those of later renders first."""
    prefix = markers_prefix(image_id)
    page, token = await store.page(prefix, limit=FIRST_PAGE)
    while True:
        for info in page:
            marker = parse_marker(info.key)
            if marker is not None:
                yield marker
        if token is None:
            return
        page, token = await store.page(prefix, token)


def _is_own(manifest: Manifest, logged: LoggedRenderCommand) -> bool:
    return manifest.render == logged.render and manifest.event.request.revision == logged.command.revision
