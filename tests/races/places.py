"""Where the gateways show one image: in lists, as a status document, as bytes, as media."""

from collections.abc import Iterable, Mapping

from tests.races.front import Front

NEWEST = 50
"""Images of the list of all images that are checked. There are fewer races at a time."""


async def places(
    front: Front, image_id: str, owner: Mapping[str, str], paths: Iterable[str], *, fresh: bool
) -> set[str]:
    """Names of the places where this gateway shows the image; `paths` are those of its objects."""
    seen = set()
    for name, parameters in (("owner's list", owner), ("list of all", {"limit": str(NEWEST)})):
        listed = await front.ask("GET", "/images", params=parameters, fresh=fresh)
        if listed.is_success and any(image["image_id"] == image_id for image in listed.body):
            seen.add(name)
    if (await front.ask("GET", f"/images/{image_id}/metadata", fresh=fresh)).is_success:
        seen.add("metadata")
    if (await front.ask("GET", f"/images/{image_id}", fresh=fresh)).is_success:
        seen.add("bytes")
    for path in paths:
        if (await front.ask("HEAD", f"/media/{path}", fresh=fresh)).is_success:
            seen.add("media")
    return seen


def paths_of(document: Mapping[str, object]) -> Iterable[str]:
    """Paths of the original and of the smallest variant that a status document names."""
    variants = document["variants"]
    assert isinstance(variants, list)
    for item in (document["original"], *variants[-1:]):
        assert isinstance(item, dict)
        yield item["path"]
