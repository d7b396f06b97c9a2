"""`pick` finds the objects that a full listing would, in fewer pages if the names are far apart."""

from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from ops.bucket.listing import SHORT_PAGE, pick
from shared.ports import ObjectInfo
from shared.s3.store import S3Store

PREFIX = "images/"
NAMES = st.text("abc", min_size=2, max_size=3)


class Listing(S3Store):
    """The pages that a bucket with these keys would give."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = sorted(keys)
        self.pages: list[int] = []

    async def page(
        self, prefix: str, token: str | None = None, *, after: str = "", limit: int = 1000
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        after = token or after
        found = [key for key in self.keys if key.startswith(prefix) and key > after]
        self.pages.append(limit)
        page = [ObjectInfo(key, 1, "e", datetime.now(UTC)) for key in found[:limit]]
        return page, page[-1].key if len(found) > limit else None


async def picked(listing: Listing, names: Sequence[str]) -> list[str]:
    return [info.key async for info in pick(listing, PREFIX, sorted(names))]


@settings(deadline=None)
@given(
    st.sets(st.tuples(NAMES, st.sampled_from(["", "/1", "/2", "/3/x"])), max_size=60).map(sorted),
    st.sets(NAMES, max_size=12),
)
async def test_pick_finds_every_object_of_the_names(objects: Sequence[tuple[str, str]], names: set[str]) -> None:
    keys = [f"{PREFIX}{name}{rest}" for name, rest in objects]
    listing = Listing([*keys, "a", "zz/b"])
    wanted = {f"{PREFIX}{name}{rest}" for name, rest in objects if name in names}
    assert await picked(listing, list(names)) == sorted(wanted)


def many(images: int) -> list[str]:
    return [f"{PREFIX}{number:06}/{part}" for number in range(images) for part in range(6)]


async def test_pick_lists_neighbours_by_full_pages() -> None:
    listing = Listing(many(2_000))
    assert len(await picked(listing, [f"{number:06}" for number in range(2_000)])) == 12_000
    assert len(listing.pages) <= 12_000 / 1000 + 4
    assert max(listing.pages) == 1000


async def test_pick_reads_one_short_page_for_each_distant_name() -> None:
    listing = Listing(many(2_000))
    found = await picked(listing, ["000007", "000900", "001999", "nobody"])
    assert [key.split("/")[1] for key in found] == ["000007"] * 6 + ["000900"] * 6 + ["001999"] * 6
    assert listing.pages == [SHORT_PAGE] * 4


async def test_pick_finds_all_objects_of_an_image_with_more_than_a_page() -> None:
    listing = Listing([f"{PREFIX}b/{number:04}" for number in range(3_000)] + [f"{PREFIX}a/1", f"{PREFIX}c/1"])
    assert len(await picked(listing, ["b"])) == 3_000
