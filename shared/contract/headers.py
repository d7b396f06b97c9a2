"""Headers of the records on Kafka: CloudEvents 1.0 in binary mode, and the first version of a redriven record."""

import re
from collections.abc import Sequence
from typing import Any, Final

from shared.contract.events import (
    SCHEMA_VERSION,
    Command,
    Event,
    Failed,
    OwnerCleared,
    Ready,
    Removed,
    Superseded,
)
from shared.contract.keys import new_id
from shared.errors import PoisonRecord

Headers = list[tuple[str, bytes]]
ReceivedHeaders = Sequence[tuple[str, bytes | None]]
"""Headers of a consumed record. Kafka allows headers without a value; they count as absent."""

VERSION_HEADER = "imagepipe-version"
"""Header of a redriven record with the version that the record had at first."""
MAX_VERSION: Final = 2**63 - 1
"""Versions are timestamps in Cassandra, which are signed 64-bit integers."""
_VERSION = re.compile(rf"[0-9]{{1,{len(str(MAX_VERSION))}}}")


def first_version(headers: ReceivedHeaders) -> int | None:
    """The version that a redriven record had at first; None for other records.

    Raises PoisonRecord if the header is not a version.
    """
    first = header(headers, VERSION_HEADER)
    if first is None:
        return None
    # Check the length first: int() raises ValueError for thousands of digits.
    if not _VERSION.fullmatch(first) or int(first) > MAX_VERSION:
        raise PoisonRecord(f"header {VERSION_HEADER} is not a version")
    return int(first)


def header(headers: ReceivedHeaders, name: str) -> str | None:
    """First value of a header, or None."""
    values = (value for key, value in headers if key == name and value is not None)
    return next((value.decode(errors="replace") for value in values), None)


def cloud_event_headers(record: Command | Event, source: str, traceparent: str | None = None) -> Headers:
    """CloudEvents 1.0 headers in Kafka's binary mode. `source` is the service, such as `imagepipe/gateway`."""
    subject = record.owner.key if isinstance(record, OwnerCleared) else str(record.image_id)
    # An answer that is published twice has the same id both times, so that readers can drop the second.
    if isinstance(record, Ready | Failed | Superseded | Removed):
        event_id = f"{subject}:{record.version}:{record.type}"
    else:
        event_id = str(new_id())
    headers: dict[str, Any] = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_type": record.type,
        "ce_source": f"/{source}",
        "ce_subject": subject,
        "ce_dataschema": f"urn:imagepipe:{record.type}:v{SCHEMA_VERSION}",
        "content-type": "application/json",
    }
    if traceparent:
        headers["traceparent"] = traceparent
    return [(name, str(value).encode()) for name, value in headers.items()]
