"""The bucket image by image, in the order of its keys: what there is, sorted into revisions and renders."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.contract.encoding import decode_manifest
from shared.contract.events import Manifest
from shared.contract.keys import IMAGES_PREFIX, MANIFEST_NAME, TOMBSTONES_PREFIX, parse_object_key
from shared.errors import NotFound, PoisonRecord
from shared.ports import ObjectInfo, ObjectStore
from shared.s3.store import PAGE, S3Store

SHORT_PAGE = 50
"""Objects that are listed where one name is looked for: an image has six, or six more for each revision."""


@dataclass
class RenderObjects:
    """One render's folder: variants by name, and the manifest where it is complete."""

    manifest: ObjectInfo | None = None
    variants: list[ObjectInfo] = field(default_factory=list)

    @property
    def objects(self) -> list[ObjectInfo]:
        """Everything there is."""
        return [*self.variants, *([self.manifest] if self.manifest else [])]


@dataclass
class RevisionObjects:
    """One revision's folder. There is one original, unless somebody put another beside it."""

    originals: list[ObjectInfo] = field(default_factory=list)
    renders: dict[str, RenderObjects] = field(default_factory=dict)


@dataclass
class BucketImage:
    """Everything under an image's prefix. `strange` are objects whose keys are none of ours."""

    image_id: UUID
    revisions: dict[UUID, RevisionObjects] = field(default_factory=dict)
    strange: list[ObjectInfo] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes by key."""

    def manifests(self) -> list[ObjectInfo]:
        """Manifests of all renders."""
        folders = (folder for revision in self.revisions.values() for folder in revision.renders.values())
        return [folder.manifest for folder in folders if folder.manifest]

    @property
    def objects(self) -> list[ObjectInfo]:
        """Everything there is."""
        found = [*self.strange]
        for revision in self.revisions.values():
            found += revision.originals
            for folder in revision.renders.values():
                found += folder.objects
        return found


def sort_objects(image_id: UUID, objects: Iterable[ObjectInfo]) -> BucketImage:
    """An image from what is under its prefix."""
    image = BucketImage(image_id)
    for info in objects:
        image.sizes[info.key] = info.size
        key = parse_object_key(info.key)
        if key is None:
            image.strange.append(info)
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


async def walk_images(store: S3Store) -> AsyncIterator[BucketImage]:
    """Every image in the bucket; holds two pages of the listing at most, and one image. Raises Unavailable."""
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


async def pages(store: S3Store, prefix: str) -> AsyncIterator[Sequence[ObjectInfo]]:
    """Pages of a listing, the next one fetched while one is worked on. Raises Unavailable."""
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


async def pick(store: S3Store, prefix: str, names: Sequence[str]) -> AsyncIterator[ObjectInfo]:
    """Objects under `prefix` whose next part of the key is one of the names: sorted, of one length. By key.

    What lies between is passed over: names far apart cost a short page each, names that lie close whole pages together,
    as if everything had been listed. Raises Unavailable.
    """
    position, length, token, last = 0, SHORT_PAGE, None, ""
    while position < len(names):
        # Begins before the name itself, for that may be a whole key; but never again with what was seen.
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
            length = min(4 * length, PAGE)
        elif names[position] > name:
            # `token` would go on with what nobody wants.
            length, token = SHORT_PAGE, None


def image_in(folder: str, objects: list[ObjectInfo]) -> BucketImage:
    """An image from what is in a folder of `images/`; one with the nil id where the folder's name is none of ours."""
    image_id = _id(folder)
    if image_id is None:
        # The nil id is no UUIDv7, so nothing else has it.
        return BucketImage(UUID(int=0), strange=objects, sizes={info.key: info.size for info in objects})
    return sort_objects(image_id, objects)


def _id(name: str) -> UUID | None:
    """The id that is written so: there are more ways to write it, and none of them is ours."""
    try:
        image_id = UUID(name)
    except ValueError:
        return None
    return image_id if str(image_id) == name else None


async def read_manifest(store: ObjectStore, key: str) -> Manifest | None:
    """A manifest; None where it is gone or cannot be read. Raises Unavailable."""
    try:
        return decode_manifest(await store.get(key))
    except (NotFound, PoisonRecord):
        return None


async def tombstones(store: S3Store) -> set[UUID]:
    """Images that are deleted for good: 16 bytes of memory and some for each. Raises Unavailable."""
    found = set()
    async for page in pages(store, TOMBSTONES_PREFIX):
        for info in page:
            image_id = _id(info.key.removeprefix(TOMBSTONES_PREFIX))
            # Some tools store an object for the folder itself.
            if image_id is not None:
                found.add(image_id)
    return found
