"""The pauses between restarts of a part."""

from deploy.local.supervision import retry as backoff


def test_backoff_doubles_to_a_limit_and_starts_over_after_a_good_run() -> None:
    waits = backoff.Backoff()
    assert [waits.next_delay(1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert waits.next_delay(backoff.RAN_WELL) == 0.5
