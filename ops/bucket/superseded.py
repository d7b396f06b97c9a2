"""Which objects of an image are superseded and may go: a pure function of its manifests (invariant 7)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ops.bucket.listing import BucketImage
from shared.contract.events import Manifest, Ready
from shared.ports import ObjectInfo


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
    """Whether it is worth reading the manifests: one original and one folder with variants hold nothing superseded."""
    originals = sum(len(revision.originals) for revision in image.revisions.values())
    folders = sum(
        bool(render.variants) for revision in image.revisions.values() for render in revision.renders.values()
    )
    return originals > 1 or folders > 1


def best_ready(found: Iterable[FoundManifest], written_before: datetime) -> FoundManifest | None:
    """The latest ready render among those that are old enough for what they superseded to go."""
    ready = [each for each in found if isinstance(each.manifest.event, Ready) and each.modified <= written_before]
    return max(ready, key=lambda each: each.manifest.precedence, default=None)


def superseded(
    image: BucketImage, manifests: Mapping[str, FoundManifest], *, now: datetime, delay: timedelta
) -> list[ObjectInfo]:
    """Variants and originals that a ready render, written at least `delay` ago, has superseded. `manifests` by key.

    Manifests stay until the image is deleted: answers to repeated commands are functions of them. So does an original
    whose revision has no manifest, and a folder without one, where someone may be rendering: nothing is deleted on a
    guess, and neither a clock nor an id decides what is older.
    """
    best = best_ready(manifests.values(), now - delay)
    if best is None:
        return []
    doomed: list[ObjectInfo] = []
    for folder in image.revisions.values():
        versions: list[int] = []
        for render in folder.renders.values():
            known = manifests.get(render.manifest.key) if render.manifest else None
            if known is not None:
                versions.append(known.revision_version)
                doomed += render.variants if known.manifest.precedence < best.manifest.precedence else []
        if versions and max(versions) < best.revision_version:
            doomed += folder.originals
    return doomed
