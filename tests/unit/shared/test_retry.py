"""Pauses between attempts, and the deadline of an outage."""

from datetime import timedelta

import pytest

from shared.errors import Unavailable
from shared.retry import Backoff, RetryDeadline, retry_unavailable

ERROR = Unavailable("kafka", "no answer")


def test_pauses_double_up_to_the_longest_and_a_reset_starts_over() -> None:
    backoff = Backoff(0.5, 30)
    assert [backoff.next_pause() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.failures == 8
    backoff.reset()
    assert (backoff.failures, backoff.next_pause()) == (0, 0.5)


def test_pauses_grow_by_the_factor() -> None:
    backoff = Backoff(0.1, 0.2, factor=1.5)
    assert [backoff.next_pause() for _ in range(3)] == pytest.approx([0.1, 0.15, 0.2])


def test_thousands_of_failures_do_not_overflow() -> None:
    backoff = Backoff(0.5, 30)
    assert [backoff.next_pause() for _ in range(3000)][-1] == 30


class Time:
    """Stands still but for the pauses, which it lists."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.pauses: list[float] = []
        monkeypatch.setattr("shared.retry.asyncio.sleep", self._sleep)
        monkeypatch.setattr("shared.retry.random.uniform", lambda _low, high: high)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


async def fail_always(deadline: RetryDeadline) -> None:
    while True:
        await deadline.pause(ERROR)


async def test_deadline_counts_from_the_first_failure_and_cuts_the_last_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = Time(monkeypatch)
    deadline = RetryDeadline(timedelta(seconds=5), time)
    time.now += 60  # The work itself took a minute before it met the outage.
    with pytest.raises(Unavailable, match="no answer"):
        await fail_always(deadline)
    assert time.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 1.9])


async def test_jitter_halves_a_pause_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    monkeypatch.setattr("shared.retry.random.uniform", lambda low, _high: low)
    deadline = RetryDeadline(timedelta(seconds=5), time)
    await deadline.pause(ERROR)
    assert time.pauses == pytest.approx([0.05])


async def test_attempt_is_repeated_until_the_engine_answers() -> None:
    errors: list[Exception] = [ERROR, ERROR]

    async def attempt() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert await retry_unavailable(attempt, timedelta(seconds=5)) == "done"
    errors += [ERROR]
    with pytest.raises(Unavailable):
        await retry_unavailable(attempt, timedelta(0))
    errors += [KeyError("a")]
    with pytest.raises(KeyError):
        await retry_unavailable(attempt, timedelta(seconds=5))
