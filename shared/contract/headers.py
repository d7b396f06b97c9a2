"""Headers of the records on Kafka: CloudEvents 1.0 in binary mode, and the first version of a redriven record."""

import re
from collections.abc import Sequence
from typing import Any

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
from shared.contract.keys import MAX_BIGINT, new_id
from shared.errors import PoisonRecord

Headers = list[tuple[str, bytes]]
ReceivedHeaders = Sequence[tuple[str, bytes | None]]
"""Headers of a consumed record. Kafka allows headers without a value; they count as absent."""

VERSION_HEADER = "imagepipe-version"
"""Header of a redriven record with the version that the record had at first."""
_NUMBER = re.compile(rb"[0-9]{1,19}")


def first_version(headers: ReceivedHeaders) -> int | None:
    """The version that a redriven record had at first; None for other records.

    Raises PoisonRecord if the header is not a version.
    """
    first = next((value for name, value in headers if name == VERSION_HEADER and value is not None), None)
    if first is None:
        return None
    version = number(first)
    if version is None:
        raise PoisonRecord(f"header {VERSION_HEADER} is not a version")
    return version


def number(text: bytes) -> int | None:
    """A decimal number of 0 to 2^63 - 1 in at most 19 ASCII digits; None for any other text."""
    # The length is checked first: Python raises ValueError for more than 4,300 digits.
    if not _NUMBER.fullmatch(text) or int(text) > MAX_BIGINT:
        return None
    return int(text)


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
