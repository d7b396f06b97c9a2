"""`If-Match` on an update of an image: the versions of the image of which one must be current."""

from collections.abc import Sequence

from werkzeug.http import parse_etags

from gateway.http.problems import Problem


def etag_of(version: str, digest: str) -> str:
    """ETag of a status document, without quotes. It begins with the version, so that it works in `If-Match` too."""
    return f"{version}-{digest}"


def required_versions(headers: Sequence[str]) -> frozenset[str] | None:
    """The versions in these values of `If-Match`; None if any version will do (`*`, or no header).

    An entry is a version, or the ETag of a status document. Its part after the version says how far the image is
    rendered, which does not matter here. Weak entries match nothing (RFC 9110, section 13.1.1).
    """
    if not headers:
        return None
    wanted = parse_etags(", ".join(headers))
    if wanted.star_tag:
        return None
    # werkzeug reads an empty tag as None.
    return frozenset(entry.partition("-")[0] for entry in wanted.as_set() if entry)


def refuse_condition(headers: Sequence[str]) -> None:
    """Raise Problem `bad_request` for `If-Match` on a request that is about all images of an owner."""
    if headers:
        raise Problem("bad_request", "`If-Match` is for a request that updates one image; it was not carried out")
