"""The owner selectors of a request: `owner_type` with `owner_id`, or the shorthand `<type>_id=<id>`."""

from collections.abc import Iterable

import structlog
from fastapi import Request
from pydantic import ValidationError

from gateway.http.problems import Problem
from shared.contract.keys import RESERVED_OWNER_TYPE, Owner

NOT_SELECTORS = frozenset({"image_id", "upload_id", "request_id"})
"""Names that end in `_id` but select no owner."""

SUFFIX = "_id"


def pairs_of(request: Request, fields: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Query parameters and form fields; both may select an owner."""
    return [*request.query_params.multi_items(), *fields]


def writable_owner(pairs: Iterable[tuple[str, str]]) -> Owner | None:
    """The owner that a write selects; it becomes a field of the request's log lines.

    Raises Problem `invalid_owner`, and `reserved_owner` for the type `image`.
    """
    owner = owner_from_pairs(pairs)
    if owner is None:
        return None
    if owner.type == RESERVED_OWNER_TYPE:
        raise Problem("reserved_owner", f"the owner type {RESERVED_OWNER_TYPE!r} is reserved")
    structlog.contextvars.bind_contextvars(owner=owner.key)
    return owner


def owner_from_pairs(pairs: Iterable[tuple[str, str]]) -> Owner | None:
    """The owner that query parameters or form fields select; None without a selector. Any type, also `image`.

    Raises Problem `invalid_owner` for two selectors, half a selector, or an invalid type or id.
    """
    selected = _selected(pairs)
    if len(selected) > 1:
        raise Problem("invalid_owner", "the request selects more than one owner: send one selector")
    return _owner(*selected[0]) if selected else None


def owners_from_pairs(pairs: Iterable[tuple[str, str]]) -> frozenset[Owner]:
    """All owners that query parameters select; empty without a selector.

    Raises Problem `invalid_owner` for half a selector, or an invalid type or id.
    """
    return frozenset(_owner(*each) for each in _selected(pairs))


def _selected(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Type and id of each selector."""
    types: list[str] = []
    ids: list[str] = []
    shorthands: list[tuple[str, str]] = []
    for name, value in pairs:
        if name == "owner_type":
            types.append(value)
        elif name == "owner_id":
            ids.append(value)
        # Letters of either case: `User_id` is refused as a type. If it were ignored, a filter would select everything.
        elif name.lower().endswith(SUFFIX) and name not in NOT_SELECTORS:
            shorthands.append((name[: -len(SUFFIX)], value))
    if len(types) != len(ids):
        raise Problem("invalid_owner", "owner_type and owner_id belong together: send each of them once")
    return [*zip(types, ids, strict=True), *shorthands]


def _owner(owner_type: str, owner_id: str) -> Owner:
    try:
        return Owner(type=owner_type, id=owner_id)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise Problem("invalid_owner", reason) from None
