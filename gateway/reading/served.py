"""Chooses the object of the bucket for a request. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.http.problems import Problem
from shared.contract.events import Original, Variant
from shared.contract.keys import MediaPath
from shared.contract.ladder import FULL
from shared.read_model.documents import ImageRow, served_original, status

RETRY_SOON = {"Retry-After": "1"}
"""On an idle stack the variants are ready within one or two seconds."""


@dataclass(frozen=True)
class Served:
    """An object to send: its key, its content type, and the name under which a browser saves it."""

    path: str
    content_type: str
    file_name: str


def served_image(row: ImageRow, variant: str | None, *, public_originals: bool, variant_names: Sequence[str]) -> Served:
    """The object for `GET /images/{id}`: this variant, or the original if None.

    If originals are not public, the variant `full` replaces the original. `variant_names` are the names of the
    variants that an image will have once it is rendered.

    Raises Problem `not_found`, `no_such_variant`, `variant_not_ready` and `render_failed`.
    """
    if variant is None and public_originals:
        original = served_original(row)
        if original is None:
            raise Problem("not_found", "there is no image with this id")
        return _original(original)
    return _variant(row, FULL if variant is None else variant, variant_names)


def _variant(row: ImageRow, name: str, variant_names: Sequence[str]) -> Served:
    if row.current is not None:
        for variant in row.current.variants:
            if variant.name == name:
                return _rendered(row.current.original, variant)
        variant_names = [variant.name for variant in row.current.variants]
    if name not in variant_names:
        raise Problem("no_such_variant", f"the variants are {', '.join(variant_names)}")
    if status(row) == "failed" and row.outcome is not None:
        error = {"type": row.outcome.error_type, "detail": row.outcome.error_detail}
        raise Problem("render_failed", f"the image could not be rendered: {error['detail']}", error=error)
    raise Problem("variant_not_ready", "the image is still being processed", headers=RETRY_SOON)


def served_media(row: ImageRow, path: MediaPath, *, public_originals: bool) -> Served:
    """The object under a media path of this image.

    The row has the file names of the served and the requested revision. For an older revision the last segment of the
    key is used. Raises Problem `no_such_media` for an original if originals are not public.
    """
    if path.variant is None and not public_originals:
        raise Problem("no_such_media", "originals are not public here")
    if row.current is not None:
        for variant in row.current.variants:
            if variant.path == path.path:
                return _rendered(row.current.original, variant)
    for original in (served_original(row), row.request):
        if original and original.path == path.path:
            return _original(original)
    return Served(path.path, path.content_type, path.path.rpartition("/")[2])


def _original(original: Original) -> Served:
    return Served(original.path, original.content_type, original.file_name)


def _rendered(original: Original, variant: Variant) -> Served:
    stem = original.file_name.rpartition(".")[0] or original.file_name
    return Served(variant.path, variant.content_type, f"{stem}-{variant.name}")
