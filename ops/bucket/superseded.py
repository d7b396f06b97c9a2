"""Finds the superseded objects of an image: a pure function of its manifests (invariant 7)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ops.bucket.listing import BucketImage
from shared.contract.events import Manifest, Ready
from shared.ports import ObjectInfo


@dataclass(frozen=True)
class FoundManifest:
    """A manifest, and the time at which it was written."""

    manifest: Manifest
    modified: datetime

    @property
    def revision_version(self) -> int:
        """Version of the command that introduced the manifest's revision."""
        return self.manifest.event.request.revision_version


def may_have_superseded(image: BucketImage) -> bool:
    """Whether the image may have superseded objects. With one original and one render it has none."""
    originals = sum(len(revision.originals) for revision in image.revisions.values())
    folders = sum(
        bool(render.variants) for revision in image.revisions.values() for render in revision.renders.values()
    )
    return originals > 1 or folders > 1


def deciding_manifests(image: BucketImage) -> list[ObjectInfo]:
    """The manifests that `superseded` needs: those of the revisions that still have an original or variants.

    Of an image with thousands of superseded revisions these are few. The latest ready render is always among them,
    because no sweep deletes its variants. With fewer manifests `superseded` returns fewer objects.
    """
    found: list[ObjectInfo] = []
    for revision in image.revisions.values():
        if revision.originals or any(render.variants for render in revision.renders.values()):
            found += [render.manifest for render in revision.renders.values() if render.manifest]
    return found


def best_ready(found: Iterable[FoundManifest], written_before: datetime) -> FoundManifest | None:
    """The latest ready render that was written before this time; None if there is none."""
    ready = [each for each in found if isinstance(each.manifest.event, Ready) and each.modified <= written_before]
    return max(ready, key=lambda each: each.manifest.precedence, default=None)


def superseded(
    image: BucketImage, manifests: Mapping[str, FoundManifest], *, now: datetime, delay: timedelta
) -> list[ObjectInfo]:
    """Variants and originals that are superseded by a ready render, which was written at least `delay` ago.

    `manifests` maps keys to manifests. The result never contains:
    - manifests: the answers to repeated commands depend on them, so they stay until the image is deleted;
    - the original of a revision without a manifest, and the variants of a render without a manifest: a worker may be
      rendering them.
    The versions in the manifests decide which render is older. No clock and no id does.
    """
    best = best_ready(manifests.values(), now - delay)
    if best is None:
        return []
    deletable: list[ObjectInfo] = []
    for folder in image.revisions.values():
        versions: list[int] = []
        for render in folder.renders.values():
            known = manifests.get(render.manifest.key) if render.manifest else None
            if known is not None:
                versions.append(known.revision_version)
                deletable += render.variants if known.manifest.precedence < best.manifest.precedence else []
        if versions and max(versions) < best.revision_version:
            deletable += folder.originals
    return deletable
