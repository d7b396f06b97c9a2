"""The cases: for one image each, the records in their order, and what is served at the end.

Every record has the published schema (`docs/events`), except those that a consumer must skip.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

BASE = "https://img.example.org/media/"
OWNER = {"type": "user", "id": "conformance"}


def version(epoch: int, offset: int) -> int:
    """Version of the command at this offset of the log, in this epoch (docs/events.md)."""
    return epoch << 52 | offset << 1


@dataclass(frozen=True)
class Record:
    """A record of the topic. `value` is None for one without a value."""

    key: str
    value: Mapping[str, Any] | None

    @property
    def data(self) -> bytes | None:
        """The value as it is in Kafka."""
        return None if self.value is None else json.dumps(self.value).encode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """CloudEvents in Kafka's binary mode."""
        if self.value is None:
            return []
        kind, image_id = self.value["type"], self.value["image_id"]
        fields = {
            "ce_specversion": "1.0",
            "ce_id": f"{self.key}:{kind}",
            "ce_type": kind,
            "ce_source": "/imagepipe/processor",
            "ce_subject": image_id,
            "ce_dataschema": f"urn:imagepipe:{kind}:v{self.value['schema_version']}",
            "content-type": "application/json",
        }
        return [(name, value.encode()) for name, value in fields.items()]


@dataclass(frozen=True)
class Image:
    """Makes the records of one image. Revisions are numbered from 1."""

    number: int

    @property
    def id(self) -> str:
        """A UUIDv7."""
        return f"019df289-a440-7000-8000-{self.number:012x}"

    def url(self, revision: int, render: int = 1) -> str:
        """URL of the largest variant."""
        return BASE + self._path(revision, f"{render:016x}/full.webp")

    def _path(self, revision: int, name: str) -> str:
        return f"images/{self.id}/{self._revision(revision)}/{name}"

    def _revision(self, revision: int) -> str:
        return f"019df289-a440-7000-9000-{self.number:06x}{revision:06x}"

    def _original(self, revision: int) -> dict[str, Any]:
        path = self._path(revision, "original.jpg")
        return {
            "file_name": f"photo-{revision}.jpg", "content_type": "image/jpeg", "size": 48231, "width": 1600,
            "height": 1200, "sha256": "9f" * 32, "path": path, "url": BASE + path,
        }  # fmt: skip

    def _current(self, revision: int, at: int, render: int) -> dict[str, Any]:
        sizes = (("full", 1600, 1200), ("large", 1200, 900), ("medium", 640, 480), ("small", 320, 240))
        paths = [self._path(revision, f"{render:016x}/{name}.webp") for name, _, _ in sizes]
        variants = [
            {
                "name": name, "path": path, "url": BASE + path, "content_type": "image/webp", "width": width,
                "height": height, "size": width * height // 20, "sha256": "ab" * 32,
            }
            for (name, width, height), path in zip(sizes, paths, strict=True)
        ]  # fmt: skip
        return {
            "revision": self._revision(revision), "revision_version": str(at), "render": f"{render:016x}",
            "original": self._original(revision), "thumbhash": "1QcSHQRnh493V4dIh4eXh1h4kJUI",
            "dominant_color": "#7f6f5f", "variants": variants, "notes": [],
        }  # fmt: skip

    def _answer(self, kind: str, at: int, answers: str, revision: int, **fields: Any) -> Record:
        request = self._original(revision) | {"revision": self._revision(revision), "revision_version": str(at)}
        return self._record(kind, at, answers, image_version=str(at), request=request, **fields)

    def _record(self, kind: str, at: int, answers: str, schema_version: int = 1, **fields: Any) -> Record:
        common = {"schema_version": schema_version, "type": kind, "image_id": self.id, "owner": OWNER}
        return Record(f"{self.id}:{at}", {**common, "version": str(at), "answers": answers, **fields})

    def ready(self, at: int, revision: int = 1, render: int = 1, **fields: Any) -> Record:
        """The variants of a revision can be fetched."""
        answers = "image.reprocess" if render > 1 else "image.uploaded" if revision == 1 else "image.replaced"
        return self._answer("image.ready", at, answers, revision, current=self._current(revision, at, render), **fields)

    def failed(self, at: int, revision: int = 1) -> Record:
        """A revision cannot be rendered."""
        answers = "image.uploaded" if revision == 1 else "image.replaced"
        error = {"type": "truncated", "detail": "The file ends before the picture does."}
        return self._answer("image.failed", at, answers, revision, error=error)

    def superseded(self, at: int, by: int) -> Record:
        """The first revision was to be rendered again after the second one was ready."""
        later = {"revision": self._revision(2), "revision_version": str(by), "render": f"{1:016x}"}
        return self._answer("image.superseded", at, "image.reprocess", 1, superseded_by=later)

    def removed(self, at: int) -> Record:
        """The image is deleted permanently."""
        return self._record("image.removed", at, "image.deleted", removed_version=str(at | 1))

    def null(self, at: int) -> Record:
        """A record without a value."""
        return Record(f"{self.id}:{at}", None)

    def later_type(self, at: int) -> Record:
        """An event of a type that a later release may add."""
        return self._answer("image.archived", at, "image.uploaded", 2, current=self._current(2, at, 1))

    def later_schema(self, at: int) -> Record:
        """An `image.ready` in a schema version that this consumer does not know."""
        ready = self.ready(at, revision=2)
        assert ready.value is not None
        return Record(ready.key, {**ready.value, "schema_version": 2})


@dataclass(frozen=True)
class Case:
    """What happens to one image. `served` is the URL that the table holds at the end, None if it holds no entry."""

    name: str
    rule: str
    image: Image
    records: tuple[Record, ...]
    served: str | None


FIRST, SECOND, THIRD = version(1, 10), version(1, 20), version(1, 30)
CLOSE, CLOSER = version(5, 3), version(5, 4)
"""As 64-bit floating point numbers these two are the same."""
EPOCH_2, EPOCH_3 = version(2, 1), version(3, 1)
"""As text the first is above the second: 9007199254740994 and 13510798882111490."""

Records = Callable[[Image], tuple[Record, ...]]
Served = tuple[int, int] | None
"""Number of the revision and of its render."""

CASES: tuple[tuple[str, str, Records, Served], ...] = (
    ("ready", "An image.ready is served.", lambda image: (image.ready(FIRST),), (1, 1)),
    ("repeated", "The same answer may come again.", lambda image: (image.ready(FIRST),) * 3, (1, 1)),
    (
        "replaced", "The image.ready with the highest version is served.",
        lambda image: (image.ready(FIRST), image.ready(SECOND, 2)), (2, 1),
    ),
    (
        "late answer", "An image.ready with a lower version changes nothing, also if it comes later.",
        lambda image: (image.ready(FIRST), image.ready(SECOND, 2), image.ready(FIRST)), (2, 1),
    ),
    (
        "late first", "The order of the records does not decide, the version does.",
        lambda image: (image.ready(SECOND, 2), image.ready(FIRST)), (2, 1),
    ),
    (
        "large versions", "Versions are 64-bit integers: floating point cannot hold them.",
        lambda image: (image.ready(CLOSE), image.ready(CLOSER, 2)), (2, 1),
    ),
    (
        "large versions, late answer", "Versions are 64-bit integers: floating point cannot hold them.",
        lambda image: (image.ready(CLOSER, 2), image.ready(CLOSE)), (2, 1),
    ),
    (
        "new epoch", "Versions are compared as numbers, not as text.",
        lambda image: (image.ready(EPOCH_2), image.ready(EPOCH_3, 2)), (2, 1),
    ),
    ("failed", "An image.failed serves nothing.", lambda image: (image.failed(FIRST),), None),
    (
        "failed replacement", "A replacement that fails leaves the previous revision in place.",
        lambda image: (image.ready(FIRST), image.failed(SECOND, 2)), (1, 1),
    ),
    (
        "answer after a failed replacement", "Only an image.ready with a higher version stops an image.ready.",
        lambda image: (image.failed(SECOND, 2), image.ready(FIRST)), (1, 1),
    ),
    (
        "rendered again", "A reprocess gives the same revision new URLs.",
        lambda image: (image.failed(FIRST), image.ready(SECOND), image.ready(THIRD, render=2)), (1, 2),
    ),
    (
        "superseded", "An image.superseded changes nothing.",
        lambda image: (image.ready(FIRST), image.ready(SECOND, 2), image.superseded(THIRD, by=SECOND)), (2, 1),
    ),
    ("removed", "An image.removed ends it.", lambda image: (image.ready(FIRST), image.removed(SECOND)), None),
    (
        "late answer after a removal", "A removed image never comes back.",
        lambda image: (image.ready(FIRST), image.removed(SECOND), image.ready(FIRST)), None,
    ),
    (
        "removal first", "A removed image never comes back, also if the removal is the first record that you see.",
        lambda image: (image.removed(SECOND), image.ready(FIRST)), None,
    ),
    (
        "no value", "A record without a value is skipped.",
        lambda image: (image.null(FIRST), image.ready(SECOND), image.null(THIRD)), (1, 1),
    ),
    (
        "unknown type", "An event of an unknown type is skipped.",
        lambda image: (image.ready(FIRST), image.later_type(SECOND)), (1, 1),
    ),
    (
        "unknown schema version", "A record with another schema_version is skipped.",
        lambda image: (image.ready(FIRST), image.later_schema(SECOND)), (1, 1),
    ),
    (
        "unknown field", "A field that you do not know is ignored.",
        lambda image: (image.ready(FIRST, added_later={"a": [1]}),), (1, 1),
    ),
)  # fmt: skip


def cases() -> list[Case]:
    """All cases, each with an image of its own."""
    images = map(Image, range(1, len(CASES) + 1))
    return [
        Case(name, rule, image, records(image), image.url(*served) if served else None)
        for image, (name, rule, records, served) in zip(images, CASES, strict=True)
    ]
