"""Parses untrusted JSON; raises only ValueError."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def read_json(data: bytes) -> Any:
    """Parse JSON. Raises ValueError, whose message does not contain the input.

    json.loads is not suitable: it raises RecursionError for deeply nested brackets, and a value that it can just parse
    may be too deep to serialize again. This parser, which also parses the records, stops at 200 levels.
    """
    try:
        return _ANYTHING.validate_json(data)
    except ValidationError as error:
        raise ValueError(error.errors(include_url=False, include_input=False)[0]["msg"]) from None
