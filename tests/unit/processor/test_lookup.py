"""The lookup reads few manifests, and the decision is the same as with all of them (invariant 3)."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.decision import Supersede, decide
from processor.lookup import complete_markers, find_manifests
from processor.results import mark_ready, write_manifest
from shared.contract.events import Manifest
from shared.contract.keys import (
    is_manifest,
    manifest_key,
    markers_complete_key,
    markers_prefix,
    new_id,
    parse_marker,
    variant_key,
)
from shared.contract.logged_command import LoggedRenderCommand
from shared.errors import PoisonRecord
from shared.ports import LIST_PAGE, ObjectInfo
from tests.support import records
from tests.support.manifests import IMAGE, UPLOAD, Bucket, buckets, failed, ready
from tests.support.memory.ports import MemoryStore

properties = settings(deadline=None, max_examples=300)


class CountingStore(MemoryStore):
    """A bucket that counts its calls. A page has at most `page_limit` objects, so that small images fill several."""

    def __init__(self, page_limit: int = LIST_PAGE) -> None:
        super().__init__()
        self.calls = 0
        self._page_limit = page_limit

    async def get(self, key: str) -> bytes:
        self.calls += 1
        return await super().get(key)

    async def page(
        self, prefix: str, token: str | None = None, *, after: str = "", limit: int = LIST_PAGE
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        self.calls += 1
        return await super().page(prefix, token, after=after, limit=min(limit, self._page_limit))

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        self.calls += 1
        return await super().list(prefix)

    def markers(self) -> set[str]:
        return {key for key in self.objects if key.startswith(markers_prefix(IMAGE))}


async def fill(store: MemoryStore, manifests: Sequence[Manifest], *, marked: bool = True) -> None:
    for manifest in manifests:
        await write_manifest(store, manifest)
        if marked:
            await mark_ready(store, manifest)


@properties
@given(buckets(), st.integers(0, 6), st.integers(1, 4), st.booleans())
async def test_decision_is_the_same_as_with_all_manifests(
    bucket: Bucket, unmarked: int, page_limit: int, trust: bool
) -> None:
    """The first manifests have no markers, as before the upgrade. Each command is decided in a bucket of its own."""
    for logged in bucket.log:
        store = CountingStore(page_limit)
        await fill(store, bucket.manifests[:unmarked], marked=False)
        if bucket.manifests[:unmarked]:
            await find_manifests(store, UPLOAD)
        await fill(store, bucket.manifests[unmarked:])
        found = await find_manifests(store, logged, trust_markers=trust)
        decision, expected = decide(logged, None, found), decide(logged, None, bucket.manifests)
        if isinstance(expected, Supersede):
            assert isinstance(decision, Supersede), "which render supersedes may differ if a command was sent twice"
        else:
            assert decision == expected


@properties
@given(buckets(repeats=False), st.integers(1, 4))
async def test_the_superseding_render_is_the_latest_if_no_command_is_sent_twice(
    bucket: Bucket, page_limit: int
) -> None:
    store = CountingStore(page_limit)
    await fill(store, bucket.manifests)
    for logged in bucket.log:
        found = await find_manifests(store, logged)
        assert decide(logged, None, found) == decide(logged, None, bucket.manifests)


def replacement(number: int) -> LoggedRenderCommand:
    return LoggedRenderCommand(records.replaced(IMAGE, 0, new_id()), 2 * number)


@pytest.mark.parametrize("ok", [True, False], ids=["ready", "failed"])
@pytest.mark.parametrize("marked", [True, False], ids=["with markers", "before the upgrade"])
async def test_the_number_of_calls_does_not_grow_with_the_revisions(ok: bool, marked: bool) -> None:
    store, log = CountingStore(), [replacement(number) for number in range(1, 2_001)]
    await fill(store, [ready(each) if ok else failed(each) for each in log], marked=marked)
    await find_manifests(store, log[0])
    store.calls = 0
    first, last = await find_manifests(store, log[0]), await find_manifests(store, log[-1])
    assert store.calls <= 10
    assert (decide(log[0], None, first) == Supersede(ready(log[-1]))) is ok
    assert decide(log[-1], None, last) == decide(log[-1], None, [ready(log[-1]) if ok else failed(log[-1])])


async def test_the_number_of_calls_does_not_grow_with_the_reprocesses_of_one_revision() -> None:
    log = [
        LoggedRenderCommand(records.reprocess(IMAGE, 0, UPLOAD.command.revision, 0), 2 * number)
        for number in range(1, 2_001)
    ]
    store = CountingStore()
    await fill(store, [ready(each) for each in (UPLOAD, *log)])
    await find_manifests(store, UPLOAD)
    store.calls = 0
    found = await find_manifests(store, UPLOAD)
    assert decide(UPLOAD, None, found) == Supersede(ready(log[-1]))
    assert store.calls <= 10


async def test_a_worker_that_crashed_before_the_marker_leaves_it_to_the_next_one() -> None:
    for page_limit in (1, LIST_PAGE):
        store = CountingStore(page_limit)
        await fill(store, [ready(UPLOAD)], marked=False)
        await find_manifests(store, UPLOAD)
        assert ready(UPLOAD).marker.key in store.markers()


async def test_a_failed_render_has_no_marker() -> None:
    store = CountingStore()
    await fill(store, [failed(UPLOAD)])
    await find_manifests(store, UPLOAD)
    assert store.markers() == set()


async def test_a_marker_without_its_manifest_has_no_effect() -> None:
    """An operator may delete a damaged render with all objects in it."""
    store, log = CountingStore(2), [replacement(number) for number in (1, 2, 3)]
    await fill(store, [ready(each) for each in log])
    await complete_markers(store, IMAGE)
    await store.delete([ready(log[-1]).marker.manifest_key])
    assert decide(log[0], None, await find_manifests(store, log[0])) == Supersede(ready(log[1]))
    assert decide(log[1], None, await find_manifests(store, log[1])) == decide(log[1], None, [ready(log[1])])


async def test_a_lost_original_makes_the_worker_read_all_manifests() -> None:
    """A worker that has stored a manifest and not its marker yet may be overtaken by the sweep."""
    store, first, second = CountingStore(1), replacement(1), replacement(2)
    await fill(store, [failed(first)])
    await complete_markers(store, IMAGE)
    await fill(store, [ready(second)], marked=False)
    assert decide(first, None, await find_manifests(store, first, trust_markers=False)) == Supersede(ready(second))


async def test_an_upgraded_image_gets_two_markers_and_the_note_that_they_are_complete() -> None:
    store, log = CountingStore(), [replacement(number) for number in range(1, 31)]
    await fill(store, [ready(each) for each in log], marked=False)
    for each in log:
        await store.put(variant_key(IMAGE, each.command.revision, each.render, "full"), b"", "image/webp")
    await find_manifests(store, log[0])
    latest = {ready(each).marker.key for each in log[-2:]}
    assert store.markers() == latest | {markers_complete_key(IMAGE), ready(log[0]).marker.key}


async def test_an_invalid_manifest_is_an_unexpected_error() -> None:
    store = CountingStore()
    await store.put(manifest_key(IMAGE, new_id(), "0" * 16), b"{}", "application/json")
    with pytest.raises(PoisonRecord):
        await find_manifests(store, UPLOAD)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_listing_has_later_markers_first(revision_version: int, version: int, other: int) -> None:
    base = ready(UPLOAD).marker
    marker = base._replace(revision_version=revision_version, version=version)
    later = marker._replace(version=other)
    assert parse_marker(marker.key) == marker
    assert (marker.key < later.key) == (marker.precedence > later.precedence)
    newer = marker._replace(revision_version=other)
    assert (marker.key < newer.key) == (marker.precedence > newer.precedence)
    assert markers_complete_key(IMAGE) < marker.key < manifest_key(IMAGE, marker.revision, marker.render)


def test_other_keys_are_no_markers() -> None:
    key = ready(UPLOAD).marker.key
    others = [f"{key}x", f"{key}/x", key.replace("/-ready/", "/ready/"), key.replace("/-ready/", "/-ready/f")]
    assert not any(map(parse_marker, [*others, markers_complete_key(IMAGE), ready(UPLOAD).marker.manifest_key]))
    assert not is_manifest(key)
