"""An example of each command and event, as it is in Kafka: topic, key, headers and value."""

import json
from importlib.resources import files
from typing import Any


def example(record_type: str, schema_version: int = 1) -> dict[str, Any]:
    """`topic`, `key`, `headers` and `value` of the example of this type, such as `image.ready`.

    Raises FileNotFoundError for an unknown type or version.
    """
    found: dict[str, Any] = json.loads((files(__name__) / f"{record_type}.v{schema_version}.json").read_text("utf-8"))
    return found
