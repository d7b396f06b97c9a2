"""The owner selector of a request: `owner_type` with `owner_id`, or the shorthand `<type>_id=<id>`."""

from collections.abc import Iterable

from pydantic import ValidationError

from gateway.http.problems import Problem
from shared.contract.keys import Owner

NOT_SELECTORS = frozenset({"image_id", "upload_id", "request_id"})
"""Names that end in `_id` but say nothing about an owner."""

SUFFIX = "_id"


def owner_from_pairs(pairs: Iterable[tuple[str, str]]) -> Owner | None:
    """The owner that query parameters or form fields select; None where none of them is a selector.

    Reading may name any type, `image` included; who writes refuses `shared.contract.keys.RESERVED_OWNER_TYPE` itself.
    Raises Problem `invalid_owner` for two selectors, half a selector, or a type or id that cannot be.
    """
    types: list[str] = []
    ids: list[str] = []
    shorthands: list[tuple[str, str]] = []
    for name, value in pairs:
        if name == "owner_type":
            types.append(value)
        elif name == "owner_id":
            ids.append(value)
        # In any case of letters: `User_id` is refused as a type, not overlooked, or a filter would widen to everything.
        elif name.lower().endswith(SUFFIX) and name not in NOT_SELECTORS:
            shorthands.append((name[: -len(SUFFIX)], value))
    if len(types) != len(ids):
        raise Problem("invalid_owner", "owner_type and owner_id belong together: give both, once each")
    selected = [*zip(types, ids, strict=True), *shorthands]
    if len(selected) > 1:
        raise Problem("invalid_owner", "there is more than one owner selector: give one")
    return _owner(*selected[0]) if selected else None


def _owner(owner_type: str, owner_id: str) -> Owner:
    try:
        return Owner(type=owner_type, id=owner_id)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise Problem("invalid_owner", reason) from None
