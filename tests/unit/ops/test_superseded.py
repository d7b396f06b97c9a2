"""The sweep decides by manifests and versions alone, and keeps the objects that the rules keep."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ops.bucket.listing import BucketImage, sort_objects
from ops.bucket.superseded import FoundManifest, deciding_manifests, may_have_superseded, superseded
from shared.contract.events import Manifest, Ready, Request
from shared.contract.keys import manifest_key, new_id, original_key, variant_key
from shared.ports import ObjectInfo
from tests.support.records import failed, ready

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BASE = "0123456789abcdef"


class Bucket:
    """One image's objects, by revision number: revision n was introduced at version 10 * n."""

    def __init__(self) -> None:
        self.image_id = new_id()
        self.revisions: dict[int, UUID] = {}
        self.objects: list[ObjectInfo] = []
        self.manifests: dict[str, FoundManifest] = {}

    def original(self, number: int) -> str:
        revision = self.revisions.setdefault(number, new_id())
        return self._put(original_key(self.image_id, revision, "image/png"), NOW)

    def render(self, number: int, version: int, *, ok: bool = True, age: timedelta = 2 * HOUR) -> set[str]:
        """Keys of the variants; the manifest is beside them."""
        revision = self.revisions[number]
        name = BASE if version == 10 * number else f"{BASE}-{version}"
        make = ready if ok else failed
        event = make(
            self.image_id, revision, version, image_version=10, revision_version=10 * number,
            answers="image.uploaded" if version == 10 * number else "image.reprocess",
        )  # fmt: skip
        key = manifest_key(self.image_id, revision, name)
        self.manifests[key] = FoundManifest(Manifest(render=name, event=event), NOW - age)
        self._put(key, NOW - age)
        return {self._put(variant_key(self.image_id, revision, name, "full"), NOW - age)} if ok else set()

    def _put(self, key: str, modified: datetime) -> str:
        self.objects.append(ObjectInfo(key, 100, "etag", modified))
        return key

    @property
    def image(self) -> BucketImage:
        return sort_objects(self.image_id, self.objects)

    def swept(self) -> set[str]:
        return {info.key for info in superseded(self.image, self.manifests, now=NOW, delay=HOUR)}


def test_replaced_revision_is_superseded_completely_and_the_current_one_stays() -> None:
    bucket = Bucket()
    old = {bucket.original(1)} | bucket.render(1, 10)
    bucket.original(2)
    bucket.render(2, 20)
    assert bucket.swept() == old


def test_few_manifests_decide_about_an_image_with_thousands_of_swept_revisions() -> None:
    bucket = Bucket()
    for number in range(1, 2_001):
        bucket.original(number)
        bucket.render(number, 10 * number)
    swept = bucket.swept()
    assert len(deciding_manifests(bucket.image)) == 2_000
    bucket.objects = [info for info in bucket.objects if info.key not in swept]
    bucket.original(2_001)
    bucket.render(2_001, 20_010)
    decisive = {info.key for info in deciding_manifests(bucket.image)}
    assert len(decisive) == 2
    read = {key: found for key, found in bucket.manifests.items() if key in decisive}
    found = {info.key for info in superseded(bucket.image, read, now=NOW, delay=HOUR)}
    assert found == bucket.swept()
    assert len(found) == 2


def test_nothing_is_superseded_before_the_delay() -> None:
    bucket = Bucket()
    bucket.original(1)
    bucket.render(1, 10)
    bucket.original(2)
    bucket.render(2, 20, age=HOUR - timedelta(seconds=1))
    assert bucket.swept() == set()


def test_object_superseded_by_an_older_render_does_not_wait_for_the_newest() -> None:
    bucket = Bucket()
    first = {bucket.original(1)} | bucket.render(1, 10)
    bucket.original(2)
    bucket.render(2, 20)
    bucket.original(3)
    bucket.render(3, 30, age=timedelta(0))
    assert bucket.swept() == first


def test_a_reprocess_supersedes_the_render_and_keeps_the_original() -> None:
    bucket = Bucket()
    bucket.original(1)
    old = bucket.render(1, 10)
    bucket.render(1, 40)
    assert bucket.swept() == old


def test_a_failed_replacement_supersedes_nothing_and_keeps_its_original() -> None:
    bucket = Bucket()
    bucket.original(1)
    bucket.render(1, 10)
    bucket.original(2)
    bucket.render(2, 20, ok=False)
    assert bucket.swept() == set()


def test_an_original_without_a_manifest_stays() -> None:
    bucket = Bucket()
    bucket.original(1)
    bucket.original(2)
    bucket.render(2, 20)
    bucket.original(3)
    assert bucket.swept() == set()


def test_folder_without_a_manifest_stays() -> None:
    bucket = Bucket()
    bucket.original(1)
    bucket.render(1, 10, ok=False)
    half = variant_key(bucket.image_id, bucket.revisions[1], f"{BASE}-15", "full")
    bucket.objects.append(ObjectInfo(half, 100, "etag", NOW - 5 * HOUR))
    bucket.original(2)
    bucket.render(2, 20)
    assert bucket.swept() == {original_key(bucket.image_id, bucket.revisions[1], "image/png")}


def test_image_with_one_render_needs_no_read() -> None:
    bucket = Bucket()
    bucket.original(1)
    bucket.render(1, 10)
    assert not may_have_superseded(bucket.image)
    bucket.original(2)
    assert may_have_superseded(bucket.image)


@settings(deadline=None)
@given(st.data())
def test_the_best_ready_render_its_original_and_later_originals_always_stay(data: st.DataObject) -> None:
    bucket = Bucket()
    count = data.draw(st.integers(1, 4))
    for number in range(1, count + 1):
        bucket.original(number)
        if data.draw(st.booleans()):
            bucket.render(number, 10 * number, ok=data.draw(st.booleans()))
        for extra in range(data.draw(st.integers(0, 2))):
            bucket.render(number, 100 + 10 * number + extra, ok=data.draw(st.booleans()))
    swept = bucket.swept()
    assert not any(key.endswith("/manifest.json") for key in swept)
    ready_ones = [each for each in bucket.manifests.values() if isinstance(each.manifest.event, Ready)]
    if not ready_ones:
        assert swept == set()
        return
    best = max(ready_ones, key=lambda each: each.manifest.precedence)
    request: Request = best.manifest.event.request
    assert variant_key(bucket.image_id, request.revision, best.manifest.render, "full") not in swept
    told = {each.manifest.event.request.revision for each in bucket.manifests.values()}
    for number, revision in bucket.revisions.items():
        stays = 10 * number >= request.revision_version or revision not in told
        assert (original_key(bucket.image_id, revision, "image/png") not in swept) == stays
