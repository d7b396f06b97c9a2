"""Which objects of an image are superseded and may go: a pure function of its manifests (invariant 7)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ops.bucket import BucketImage
from shared.events import Manifest, Ready
from shared.ports import ObjectInfo

MANIFEST = "/manifest.json"


@dataclass(frozen=True)
class FoundManifest:
    """A manifest, and when it was written."""

    manifest: Manifest
    modified: datetime

    @property
    def revision_version(self) -> int:
        """Version of the command that introduced the manifest's revision."""
        return self.manifest.event.request.revision_version


def may_have_superseded(image: BucketImage) -> bool:
    """Whether it is worth reading the manifests: an image with one revision and one render has nothing to sweep."""
    renders = sum(len(revision.renders) for revision in image.revisions.values())
    return len(image.revisions) > 1 or renders > 1


def best_ready(found: Iterable[FoundManifest], written_before: datetime) -> FoundManifest | None:
    """The latest ready render among those that are old enough for what they superseded to go."""
    ready = [each for each in found if isinstance(each.manifest.event, Ready) and each.modified <= written_before]
    return max(ready, key=lambda each: each.manifest.precedence, default=None)


def superseded(
    image: BucketImage,
    manifests: Mapping[str, FoundManifest],
    introduced: Mapping[UUID, int],
    *,
    now: datetime,
    delay: timedelta,
) -> list[ObjectInfo]:
    """Objects that a ready render, written at least `delay` ago, has superseded.

    `manifests` by key; `introduced` tells the introducing versions of revisions without a manifest, as far as the log
    knows them. An original whose revision is of unknown version stays: nothing is deleted on a guess, and neither a
    clock nor an id decides what is older.
    """
    best = best_ready(manifests.values(), now - delay)
    if best is None:
        return []
    doomed: list[ObjectInfo] = []
    for revision, folder in image.revisions.items():
        versions = {introduced[revision]} if revision in introduced else set()
        for render in folder.renders.values():
            known = manifests.get(render.manifest.key) if render.manifest else None
            if known is None:
                # Someone may be rendering here; once there is a manifest, a later sweep judges it.
                continue
            versions.add(known.revision_version)
            if known.manifest.precedence < best.manifest.precedence:
                doomed += render.objects
        if folder.original and versions and max(versions) < best.revision_version:
            doomed.append(folder.original)
    return doomed


def unknown_revisions(image: BucketImage, manifests: Mapping[str, FoundManifest]) -> dict[UUID, ObjectInfo]:
    """Originals of revisions that no manifest tells the version of."""
    known = {each.manifest.event.request.revision for each in manifests.values()}
    return {
        revision: folder.original
        for revision, folder in image.revisions.items()
        if folder.original and revision not in known
    }


def in_order(doomed: Iterable[ObjectInfo]) -> list[str]:
    """Keys in the order of deletion: manifests last, so that a sweep that is interrupted finds the rest again."""
    return sorted((info.key for info in doomed), key=lambda key: key.endswith(MANIFEST))
