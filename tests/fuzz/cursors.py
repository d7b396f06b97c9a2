"""The query of a list with its cursor, on any text.

An input is a query string such as `limit=2&cursor=...&user_id=1`.

1. Only a Problem leaves the parser, with a code that the API documents for lists.
2. What it accepts is within the limits, and a cursor's image is one that can exist.
3. A cursor is valid only as the gateway has written it, and only for its list.
4. The URL of a next page, parsed again, is the same list below the last image.
"""

from collections.abc import Iterator
from random import Random
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from gateway.http.problems import Problem
from gateway.reading.anchors import MAX_OFFSET
from gateway.reading.lists import MAX_LIMIT, ListQuery, decode_cursor, encode_cursor
from shared.contract.keys import Owner, is_image_id

CODES = {"invalid_owner", "invalid_paging", "invalid_cursor"}
IMAGE = UUID("019df289-a440-7000-8000-1a2b3c4d5e6f")
BASE = "https://img.example.org"


def check(data: bytes) -> None:
    """Raise if the property does not hold for this query string."""
    text = data.decode(errors="replace")
    _check_cursor(text)
    pairs = parse_qsl(text, keep_blank_values=True)
    try:
        query = ListQuery.parse(pairs)
    except Problem as problem:
        assert problem.code in CODES, problem.code
        return
    assert 1 <= query.limit <= MAX_LIMIT
    assert 0 <= query.offset <= MAX_OFFSET
    if query.after is not None:
        assert is_image_id(query.after)
        assert encode_cursor(query.after, query.owner) == dict(pairs)["cursor"]
    following = dict(parse_qsl(urlsplit(query.url_after(IMAGE, BASE)).query))
    assert ListQuery.parse(following.items()) == ListQuery(query.owner, query.limit, 0, IMAGE)


def _check_cursor(text: str) -> None:
    try:
        image_id = decode_cursor(text, None)
    except Problem as problem:
        assert problem.code == "invalid_cursor", problem.code
        return
    assert encode_cursor(image_id, None) == text


def mutate(data: bytes, chance: Random) -> bytes:
    """Put a cursor into the query: the right one of its owner, a wrong one, or another spelling of the right one."""
    pairs = dict(parse_qsl(data.decode(errors="replace"), keep_blank_values=True))
    image_id = UUID(int=chance.getrandbits(128)) if chance.random() < 0.5 else IMAGE
    try:
        owner = ListQuery.parse([pair for pair in pairs.items() if pair[0].endswith("_id")]).owner
    except Problem:
        owner = None
    cursor = encode_cursor(image_id, owner if chance.random() < 0.8 else None)
    spellings = (
        cursor,
        cursor.replace("-", "+").replace("_", "/"),
        cursor + "=",
        cursor[:-1],
        f" {cursor}",
        cursor * 2,
    )
    return urlencode(pairs | {"cursor": chance.choice(spellings)}).encode()


def seeds() -> Iterator[bytes]:
    """Queries with and without owner and cursor."""
    owner = Owner(type="user", id="é 1")
    yield b""
    yield b"limit=2&offset=100000"
    yield b"owner_type=user&owner_id=%C3%A9+1&limit=500"
    yield urlencode({"cursor": encode_cursor(IMAGE, None)}).encode()
    yield urlencode({"user_id": owner.id, "cursor": encode_cursor(IMAGE, owner)}).encode()
    yield encode_cursor(IMAGE, None).encode()
    yield encode_cursor(UUID("fffff289-a440-7fff-bfff-ffffffffffff"), None).encode()
