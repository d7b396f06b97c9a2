"""Reading a topic to its end: every batch is taken, in order, and progress counts the records."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

import pytest

from ops.log import reader
from ops.log.reader import Offsets, read_topic
from ops.terminal.output import Output
from shared.consuming.record import ConsumedRecord
from shared.settings import Settings, Topic

SETTINGS = Settings(_env_file=None)
MOMENT = datetime(2026, 11, 26, tzinfo=UTC)


class OnePartition:
    """A reader of a topic with the offsets 3 to 9, of which 5 is compacted away. From MOMENT on there are 7 to 9."""

    def __init__(self, _settings: Settings, topic: Topic) -> None:
        self.topic = topic

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        return None

    async def beginnings(self) -> Offsets:
        return {0: 3}

    async def ends(self) -> Offsets:
        return {0: 10}

    async def at(self, when: datetime) -> Offsets:
        assert when == MOMENT
        return {0: 7}

    async def read(self, start: Offsets, end: Offsets) -> AsyncIterator[Sequence[ConsumedRecord]]:
        offsets = [offset for offset in range(start[0], end[0]) if offset != 5]
        for first in range(0, len(offsets), 2):
            yield [ConsumedRecord(Topic.EVENTS, 0, offset, None, None) for offset in offsets[first : first + 2]]


class Bars(Output):
    """Keeps what is shown of each progress bar: title, total, and the count at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[str, int | None, int]] = []

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[Any]:
        counts: list[int] = []
        yield counts.append
        self.shown.append((title, total, sum(counts)))


@pytest.fixture(autouse=True)
def _one_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "TopicReader", OnePartition)


@pytest.mark.parametrize(
    ("start", "end", "expected", "bar"),
    [
        (None, None, [3, 4, 6, 7, 8, 9], (7, 6)),
        ({0: 6}, None, [6, 7, 8, 9], (4, 4)),
        (MOMENT, None, [7, 8, 9], (3, 3)),
        (None, {0: 5}, [3, 4], (2, 2)),
    ],
)
async def test_a_topic_is_read_to_its_end(
    start: Offsets | datetime | None, end: Offsets | None, expected: list[int], bar: tuple[int, int]
) -> None:
    records: list[ConsumedRecord] = []
    output = Bars()
    reached = await read_topic(SETTINGS, Topic.EVENTS, records.extend, output, start=start, end=end)
    assert [record.offset for record in records] == expected
    assert reached == (end or {0: 10})
    assert output.shown == [("Read images.events", *bar)]


async def test_where_nothing_is_new_no_bar_is_shown() -> None:
    output, records = Bars(), list[ConsumedRecord]()
    assert await read_topic(SETTINGS, Topic.EVENTS, records.extend, output, start={0: 10}) == {0: 10}
    assert (records, output.shown) == ([], [])


async def test_progress_is_optional() -> None:
    records: list[ConsumedRecord] = []
    await read_topic(SETTINGS, Topic.EVENTS, records.extend)
    assert len(records) == 6
