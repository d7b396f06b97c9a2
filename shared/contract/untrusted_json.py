"""JSON that somebody else wrote, or that nobody can vouch for: reading it ends in a value or in ValueError."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def read_json(data: bytes) -> Any:
    """What the JSON says. Raises ValueError, without the content in it.

    Not json.loads: that raises RecursionError for brackets in brackets, and what it just manages to read may be too
    deep to be written again. This parser, the contract's own, stops at 200 levels.
    """
    try:
        return _ANYTHING.validate_json(data)
    except ValidationError as error:
        raise ValueError(error.errors(include_url=False, include_input=False)[0]["msg"]) from None
