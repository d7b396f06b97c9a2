"""Lists the bucket image by image, in the order of the keys, and sorts the objects into revisions and renders."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.contract.encoding import decode_manifest
from shared.contract.events import Manifest
from shared.contract.keys import (
    IMAGES_PREFIX,
    MANIFEST_NAME,
    TOMBSTONES_PREFIX,
    is_image_id,
    markers_complete_key,
    parse_marker,
    parse_object_key,
)
from shared.errors import NotFound, PoisonRecord
from shared.ports import LIST_PAGE, ObjectInfo, ObjectStore

SHORT_PAGE = 50
"""Objects in a page of a listing for one image. An image has seven objects, and seven more for each further
revision."""
MANIFESTS_AT_ONCE = 8
"""Manifests of one image that a command reads concurrently, because an image may have thousands of revisions."""


@dataclass
class RenderObjects:
    """The folder of one render: its variants, and its manifest if the render is complete."""

    manifest: ObjectInfo | None = None
    variants: list[ObjectInfo] = field(default_factory=list)

    @property
    def objects(self) -> list[ObjectInfo]:
        """All objects of the folder."""
        return [*self.variants, *([self.manifest] if self.manifest else [])]


@dataclass
class RevisionObjects:
    """The folder of one revision. It has one original, unless an operator or another tool has added one."""

    originals: list[ObjectInfo] = field(default_factory=list)
    renders: dict[str, RenderObjects] = field(default_factory=dict)


@dataclass
class BucketImage:
    """All objects under the prefix of an image. `misnamed` are objects with keys that imagepipe never writes.

    `markers` are the markers of ready renders, and the object that says that they are complete.
    """

    image_id: UUID
    revisions: dict[UUID, RevisionObjects] = field(default_factory=dict)
    markers: list[ObjectInfo] = field(default_factory=list)
    misnamed: list[ObjectInfo] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    """Maps each key to its size in bytes."""

    def manifests(self) -> list[ObjectInfo]:
        """Manifests of all renders."""
        folders = (folder for revision in self.revisions.values() for folder in revision.renders.values())
        return [folder.manifest for folder in folders if folder.manifest]

    @property
    def objects(self) -> list[ObjectInfo]:
        """All objects of the image."""
        found = [*self.misnamed, *self.markers]
        for revision in self.revisions.values():
            found += revision.originals
            for folder in revision.renders.values():
                found += folder.objects
        return found


def sort_objects(image_id: UUID, objects: Iterable[ObjectInfo]) -> BucketImage:
    """Sort the objects under the prefix of an image."""
    image = BucketImage(image_id)
    for info in objects:
        image.sizes[info.key] = info.size
        if info.key == markers_complete_key(image_id) or parse_marker(info.key):
            image.markers.append(info)
            continue
        key = parse_object_key(info.key)
        if key is None:
            image.misnamed.append(info)
            continue
        revision = image.revisions.setdefault(key.revision, RevisionObjects())
        if key.render is None:
            revision.originals.append(info)
            continue
        folder = revision.renders.setdefault(key.render, RenderObjects())
        if key.name == MANIFEST_NAME:
            folder.manifest = info
        else:
            folder.variants.append(info)
    return image


async def walk_images(store: ObjectStore) -> AsyncIterator[BucketImage]:
    """Every image in the bucket. At most two pages of the listing and one image are in memory. Raises Unavailable."""
    prefix, held = "", list[ObjectInfo]()
    async for page in pages(store, IMAGES_PREFIX):
        for info in page:
            parts = info.key.split("/", 2)
            if parts[1] != prefix:
                if held:
                    yield image_in(prefix, held)
                prefix, held = parts[1], []
            held.append(info)
    if held:
        yield image_in(prefix, held)


async def pages(store: ObjectStore, prefix: str) -> AsyncIterator[Sequence[ObjectInfo]]:
    """Pages of a listing. The next page is fetched while the caller handles the present one. Raises Unavailable."""
    following = asyncio.create_task(store.page(prefix))
    try:
        while True:
            page, token = await following
            if token is None:
                yield page
                return
            following = asyncio.create_task(store.page(prefix, token))
            yield page
    finally:
        following.cancel()


async def pick(store: ObjectStore, prefix: str, names: Sequence[str]) -> AsyncIterator[ObjectInfo]:
    """Objects under `prefix` whose next part of the key is one of `names`, in the order of their keys.

    `names` must be sorted and all of the same length. The function skips the objects between the names: names that are
    far apart cost a short page each, and names that are close together share full pages. Raises Unavailable.
    """
    position, length, token, last = 0, SHORT_PAGE, None, ""
    while position < len(names):
        # Start before the name, because the name itself may be a key, but never before the last object that was read.
        after = max(last, prefix + names[position][:-1])
        page, token = await store.page(prefix, token, after=after, limit=length)
        found = 0
        for info in page:
            last = info.key
            name = last.removeprefix(prefix).partition("/")[0]
            while position < len(names) and names[position] < name:
                position += 1
            if position == len(names):
                return
            if names[position] == name:
                found += 1
                yield info
        if token is None:
            return
        if 2 * found >= len(page):
            length = min(4 * length, LIST_PAGE)
        elif names[position] > name:
            # The next page of `token` would contain objects between the names.
            length, token = SHORT_PAGE, None


def image_in(folder: str, objects: list[ObjectInfo]) -> BucketImage:
    """Sort the objects of a folder in `images/`. If the folder's name is not an image id, the image has the nil id."""
    image_id = _id(folder)
    if image_id is None:
        # The nil id is not a UUIDv7, so no image has it.
        return BucketImage(UUID(int=0), misnamed=objects, sizes={info.key: info.size for info in objects})
    return sort_objects(image_id, objects)


def _id(name: str) -> UUID | None:
    """Parse an id. A UUID can be written in several ways; only the one that imagepipe writes is accepted."""
    try:
        image_id = UUID(name)
    except ValueError:
        return None
    return image_id if str(image_id) == name and is_image_id(image_id) else None


async def read_manifest(store: ObjectStore, key: str) -> Manifest | None:
    """Read a manifest; None if it does not exist or is invalid. Raises Unavailable."""
    try:
        return decode_manifest(await store.get(key))
    except (NotFound, PoisonRecord):
        return None


async def tombstones(store: ObjectStore) -> set[UUID]:
    """Ids of the images that have a tombstone. Each takes a little more than 16 bytes of memory. Raises Unavailable."""
    found = set()
    async for page in pages(store, TOMBSTONES_PREFIX):
        for info in page:
            image_id = _id(info.key.removeprefix(TOMBSTONES_PREFIX))
            # Some tools store an object for the folder itself; it has no id.
            if image_id is not None:
                found.add(image_id)
    return found
