"""Hypothesis strategies for the records that a client with write access to Kafka can append, valid ones among them."""

import json
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

from shared.consuming.record import ConsumedRecord
from shared.contract.examples import example
from shared.contract.headers import VERSION_HEADER
from shared.contract.json_schema import COMMANDS, EVENTS
from shared.settings import Topic
from tests.support.records import POISON

EXAMPLES = [example(name) for name in sorted(EVENTS | COMMANDS)]
SMALL_POISON = [value for value in POISON if value is None or len(value) < 10_000]

FORGED_ID = "ffffffff-ffff-7fff-bfff-ffffffffffff"
"""A UUIDv7 of the year 10889."""
IDS = [FORGED_ID, "00000000-0000-0000-0000-000000000000", "00000000-0000-7000-8000-000000000000",
       "e6b2f2a8-8b3c-4f0e-9d3a-1c5b7a9e0f42", "019df289-a440-7000-8000-1a2b3c4d5e6f",
       "e6707a6e-b000-7000-8000-000000000000", "e6707a6e-afff-7000-8000-000000000000"]  # fmt: skip
INTEGERS = st.sampled_from(
    [0, -1, 1, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63), 2**64, 10**400]
) | st.integers(0, 20_000)
LEAVES: st.SearchStrategy[Any] = (
    INTEGERS
    | INTEGERS.map(str)
    | st.sampled_from(IDS)
    | st.floats()
    | st.booleans()
    | st.none()
    | st.text(max_size=8)
    | st.sampled_from(["\x00", "\x1b[2J", "[/]", "[bold]\\", ":cat:", "../../x", "image.ready", "9" * 4000])
    | st.just({})
    | st.just([])
)
NAMES = st.sampled_from(
    ["dlq-settles", "dlq-action", "dlq-version", "dlq-attempts", "dlq-source-topic", "dlq-source-partition",
     "dlq-source-offset", "dlq-error", "dlq-kept:dlq-error", VERSION_HEADER, "imagepipe-redrives", "traceparent",
     "ce_type", ""]
) | st.text(st.characters(codec="utf-8"), max_size=6)  # fmt: skip
NUMBERS = st.sampled_from([b"9" * 5000, b"-1", b"0", b"3:17", b"0:0", b"0:1", b"1e3", "١".encode(), b"%d" % 2**63])
HEADERS = st.lists(st.tuples(NAMES, st.none() | NUMBERS | st.binary(max_size=8)), max_size=4)
KEYS = st.none() | st.sampled_from([b"", b"user:1", b"dlq-settled:0:0", b"dlq-settled:0:99999999999999999999", b"\xff"])
TIMES = st.sampled_from([-1, 0, 1, 1_700_000_000_000, 2**63 - 1, -(2**63)])


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A valid record in which up to three fields, at any depth, are changed, left out or added."""
    value = json.loads(json.dumps(draw(st.sampled_from(EXAMPLES))["value"]))
    for _ in range(draw(st.integers(0, 3))):
        container: Any = value
        while True:
            places = list(container) if isinstance(container, dict) else range(len(container))
            if not places:
                break
            place = draw(st.sampled_from(list(places)))
            if isinstance(container[place], dict | list) and draw(st.booleans()):
                container = container[place]
                continue
            if isinstance(container, dict) and draw(st.integers(0, 5)) == 0:
                del container[place]
            else:
                container[place] = draw(LEAVES)
            break
    return json.dumps(value).encode(errors="surrogatepass")


VALUES = _mutated() | st.binary(max_size=40) | st.sampled_from(SMALL_POISON)


@st.composite
def logs(draw: st.DrawFn, topic: Topic) -> list[ConsumedRecord]:
    """Up to six records of one partition, as they come from Kafka."""
    fields = st.tuples(KEYS, VALUES, HEADERS, TIMES)
    return [
        ConsumedRecord.from_aiokafka(
            topic,
            SimpleNamespace(partition=0, offset=offset, key=key, value=value, headers=headers, timestamp=timestamp),
        )
        for offset, (key, value, headers, timestamp) in enumerate(draw(st.lists(fields, max_size=6)))
    ]
