"""Ids, owners, versions and object keys."""

import time
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contract.keys import (
    CONTENT_TYPES,
    ObjectKey,
    Owner,
    answer_version,
    command_version,
    day_of,
    events_partition,
    image_id_from_url,
    incoming_prefix,
    is_manifest,
    manifest_key,
    new_id,
    original_key,
    parse_media_path,
    parse_object_key,
    shard_of,
    tombstone_key,
    uploaded_at,
    variant_key,
)
from tests.support.records import id_at

IMAGE, REVISION = UUID("01a202b6-de8b-7263-bb6d-eec9c6bdacf8"), UUID("01a202b6-e40e-7242-90e4-c9ca91694c07")
RANDOM = UUID("6888272d-dcfc-4dd5-8d57-8614a617f307")
DIGEST = "0123456789abcdef"


# The largest offset is 2**51 - 1, and `low` has one after it.
@given(st.integers(1, 2046), st.integers(0, 2**51 - 2), st.integers(0, 2**51 - 2))
def test_versions_order_as_the_log_does(epoch: int, low: int, high: int) -> None:
    low, high = sorted((low, high))
    first, second = command_version(epoch, low), command_version(epoch, high)
    assert first <= second
    # An answer comes after its command and before the next one; a higher epoch after every offset of the lower.
    assert first < answer_version(first) < command_version(epoch, low + 1)
    assert answer_version(second) < command_version(epoch + 1, 0)
    # A Cassandra timestamp is a signed 64-bit number.
    assert answer_version(command_version(2047, 2**51 - 1)) < 2**63


def test_ids_ascend_and_contain_their_time() -> None:
    before = datetime.now(UTC)
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert ids[0].version == 7
    assert abs((uploaded_at(ids[0]) - before).total_seconds()) < 5


def test_ids_follow_a_clock_that_jumps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    latest = new_id()
    earlier = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr(time, "time_ns", lambda: int(earlier.timestamp() * 1e9))
    assert abs(uploaded_at(new_id()) - earlier) < timedelta(seconds=1)
    assert len({new_id() for _ in range(1000)}) == 1000
    monkeypatch.undo()
    assert new_id() > latest


def test_ids_ascend_over_a_small_jump_back(monkeypatch: pytest.MonkeyPatch) -> None:
    latest, earlier = new_id(), time.time_ns() - 50 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: earlier)
    assert new_id() > latest


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 3, 1, 23, 59, 59, 999000, UTC), date(2026, 3, 1)),
        (datetime(2026, 3, 2, tzinfo=UTC), date(2026, 3, 2)),
        (datetime(1970, 1, 1, tzinfo=UTC), date(1970, 1, 1)),
    ],
)
def test_day_is_the_utc_day_of_the_id(moment: datetime, day: date) -> None:
    assert day_of(id_at(moment, 5)) == day
    assert uploaded_at(id_at(moment, 5)) == moment


def test_shards_and_partitions_are_stable_and_spread() -> None:
    # This must never change: another hash would look for rows in another partition.
    fixed = UUID("019df289-a440-7000-8000-1a2b3c4d5e6f")
    assert shard_of(fixed, 4) == 2
    assert events_partition(fixed, 8) == 2
    counts = [0] * 4
    for _ in range(2000):
        counts[shard_of(new_id(), 4)] += 1
    assert min(counts) > 350


@pytest.mark.parametrize(
    ("kind", "name"),
    [("user", "1"), ("product", "a:b:c"), ("a", "x" * 128), ("user", "Zoë 🙂"), ("user", "*"), ("user", "../..")],
)
def test_owner_keys_are_parsed(kind: str, name: str) -> None:
    owner = Owner(type=kind, id=name)
    assert owner.key == f"{kind}:{name}"
    prefix = incoming_prefix(owner)
    assert prefix == f"incoming/{owner.digest}/"
    assert len(owner.digest) == 64
    assert set(owner.digest) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("", "1"), ("User", "1"), ("1a", "1"), ("a:b", "1"), ("a" * 33, "1"), ("user", ""), ("user", "x" * 129),
     ("user", "a\nb"), ("user", "\x00"), ("user", "\ud800"), ("user\n", "1")],
)  # fmt: skip
def test_invalid_owner_keys_are_refused(kind: str, name: str) -> None:
    with pytest.raises(ValidationError):
        Owner(type=kind, id=name)


def test_owner_of_an_upload_without_a_key_is_the_image() -> None:
    assert Owner.of_image(IMAGE).key == f"image:{IMAGE}"


@pytest.mark.parametrize(("extension", "content_type"), CONTENT_TYPES.items())
def test_media_paths_are_parsed(extension: str, content_type: str) -> None:
    parsed = parse_media_path(original_key(IMAGE, REVISION, content_type))
    assert parsed is not None
    assert parsed[1:] == (IMAGE, REVISION, None, None, content_type)
    assert parsed.path.endswith(extension)


@pytest.mark.parametrize("render", [DIGEST, f"{DIGEST}-4503599627370510"])
def test_variant_paths_are_parsed(render: str) -> None:
    parsed = parse_media_path(variant_key(IMAGE, REVISION, render, "small"))
    assert parsed is not None
    assert parsed[1:] == (IMAGE, REVISION, render, "small", "image/webp")


@pytest.mark.parametrize(
    "path",
    [
        manifest_key(IMAGE, REVISION, DIGEST),
        tombstone_key(IMAGE),
        "incoming/" + "0" * 64 + "/cat.jpg",
        f"/images/{IMAGE}/{REVISION}/original.jpg",
        f"images/{IMAGE}/{REVISION}/original.gif",
        f"images/{IMAGE}/{REVISION}/original.jpg\n",
        f"images/{IMAGE}/{REVISION}/../x/original.jpg",
        f"images/{IMAGE}/{REVISION}/{DIGEST}/manifest.json.webp",
        f"images/{str(IMAGE).upper()}/{REVISION}/original.jpg",
        f"images/{RANDOM}/{REVISION}/original.jpg",
        "",
    ],
)
def test_other_paths_are_not_media_paths(path: str) -> None:
    assert parse_media_path(path) is None


@pytest.mark.parametrize("render", [DIGEST, f"{DIGEST}-4503599627370510"])
def test_object_keys_are_parsed(render: str) -> None:
    manifest, variant = manifest_key(IMAGE, REVISION, render), variant_key(IMAGE, REVISION, render, "small")
    assert parse_object_key(original_key(IMAGE, REVISION, "image/png")) == ObjectKey(IMAGE, REVISION, None, None)
    assert parse_object_key(manifest) == ObjectKey(IMAGE, REVISION, render, "manifest.json")
    assert parse_object_key(variant) == ObjectKey(IMAGE, REVISION, render, "small.webp")
    assert is_manifest(manifest)
    assert not is_manifest(variant)


@pytest.mark.parametrize(
    "key",
    [
        tombstone_key(IMAGE),
        f"images/{IMAGE}/{REVISION}/original.gif",
        f"images/{IMAGE}/{REVISION}/manifest.json",
        f"images/{IMAGE}/{RANDOM}/original.png",
        f"images/{'-' * 36}/{REVISION}/original.png",
        f"images/{IMAGE}/{REVISION}/{DIGEST}/",
    ],
)
def test_keys_of_other_shapes_are_not_parsed(key: str) -> None:
    assert parse_object_key(key) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example.org/{}",
        "http://127.0.0.1:8000/media/{}",
        "/{}",
        "{}",
        "  https://example.org/a/b/{}?width=3#top ",
    ],
)
def test_id_is_read_off_the_url_of_an_original(url: str) -> None:
    assert image_id_from_url(url.format(original_key(IMAGE, REVISION, "image/png"))) == IMAGE


@pytest.mark.parametrize(
    "url",
    ["", "https://example.org/cat.jpg", "http://[broken", f"https://e.org/ximages/{IMAGE}/{REVISION}/original.jpg",
     f"https://e.org/?u=images/{IMAGE}/{REVISION}/original.jpg", f"https://e.org/images/{IMAGE}/{REVISION}/x.webp"],
)  # fmt: skip
def test_other_urls_have_no_image_id(url: str) -> None:
    assert image_id_from_url(url) is None
