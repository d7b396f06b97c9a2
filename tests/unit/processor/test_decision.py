"""The rules of the decision one by one, and what holds for any log and bucket (invariants 3 and 5 to 7)."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.decision import Decision, GiveUp, Remove, Render, Repeat, Supersede, decide
from shared.contract.events import Manifest, Ready
from shared.contract.logged_command import LoggedRenderCommand
from tests.support import records
from tests.support.manifests import IMAGE, REVISIONS, UPLOAD, Bucket, buckets, failed, is_of, ready

# A loaded machine must not fail an example for its time.
properties = settings(deadline=None, max_examples=200)

REPLACEMENT = LoggedRenderCommand(records.replaced(IMAGE, 0, REVISIONS[1]), 2)
AGAIN = LoggedRenderCommand(records.reprocess(IMAGE, 0, REVISIONS[0], 0), 4)
"""The upload's revision once more: later than the upload, earlier than the replacement's revision."""
UPLOAD_TWICE = LoggedRenderCommand(UPLOAD.command, 6)
"""A client's retry: the same ids at a later offset."""
AGAIN_OF_TWICE = LoggedRenderCommand(records.reprocess(IMAGE, 0, REVISIONS[0], 6), 8)
"""Planned from the row that the retry has written: it says that the revision has version 6."""
STALE_AGAIN = LoggedRenderCommand(records.reprocess(IMAGE, 0, REVISIONS[0], 0), 10)
"""Planned from the row before the retry: it says that the revision has version 0."""


@pytest.mark.parametrize(
    ("logged", "tombstone", "manifests", "expected"),
    [
        # 1. A tombstone wins over everything, also one of a deletion before the command.
        pytest.param(UPLOAD, 3, [], Remove(3), id="deleted"),
        pytest.param(UPLOAD, 3, [ready(UPLOAD), ready(REPLACEMENT)], Remove(3), id="deleted, with objects left"),
        pytest.param(REPLACEMENT, 1, [], Remove(1), id="deleted before the command"),
        # 2. A later ready render.
        pytest.param(UPLOAD, None, [ready(REPLACEMENT)], Supersede(ready(REPLACEMENT)), id="later revision"),
        pytest.param(UPLOAD, None, [ready(UPLOAD), ready(AGAIN)], Supersede(ready(AGAIN)), id="later render"),
        pytest.param(
            UPLOAD, None, [ready(AGAIN), ready(REPLACEMENT)], Supersede(ready(REPLACEMENT)), id="the latest of several"
        ),
        pytest.param(AGAIN, None, [ready(REPLACEMENT)], Supersede(ready(REPLACEMENT)), id="reprocess of old revision"),
        pytest.param(
            REPLACEMENT, None, [ready(UPLOAD_TWICE)], Supersede(ready(UPLOAD_TWICE)), id="upload sent again"
        ),
        pytest.param(
            AGAIN_OF_TWICE, None, [ready(STALE_AGAIN)], Supersede(ready(STALE_AGAIN)), id="stale revision version"
        ),
        # Failed, or not later: supersedes nothing.
        pytest.param(UPLOAD, None, [failed(REPLACEMENT)], Render(), id="later revision that failed"),
        pytest.param(REPLACEMENT, None, [ready(UPLOAD)], Render(), id="earlier revision"),
        pytest.param(REPLACEMENT, None, [ready(UPLOAD), ready(AGAIN)], Render(), id="later of earlier revision"),
        pytest.param(AGAIN_OF_TWICE, None, [ready(AGAIN)], Render(), id="earlier render of the revision"),
        pytest.param(AGAIN, None, [ready(AGAIN_OF_TWICE)], Supersede(ready(AGAIN_OF_TWICE)), id="two versions"),
        # 3. The own manifest, ready or failed.
        pytest.param(UPLOAD, None, [ready(UPLOAD)], Repeat(ready(UPLOAD)), id="rendered before"),
        pytest.param(UPLOAD, None, [failed(UPLOAD), failed(REPLACEMENT)], Repeat(failed(UPLOAD)), id="failed before"),
        pytest.param(UPLOAD_TWICE, None, [ready(UPLOAD)], Repeat(ready(UPLOAD)), id="rendered for first of two"),
        pytest.param(UPLOAD, None, [ready(UPLOAD_TWICE)], Repeat(ready(UPLOAD_TWICE)), id="rendered for second of two"),
        # 5. Nothing that answers.
        pytest.param(UPLOAD, None, [], Render(), id="nothing there"),
        pytest.param(AGAIN, None, [ready(UPLOAD)], Render(), id="reprocess, which has a render of its own"),
    ],
)  # fmt: skip
def test_rules(
    logged: LoggedRenderCommand, tombstone: int | None, manifests: Sequence[Manifest], expected: Decision
) -> None:
    assert decide(logged, tombstone, manifests) == expected
    # 4. Where there is nothing to render, nothing else changes.
    lost = decide(logged, tombstone, manifests, original_lost=True)
    assert lost == (GiveUp() if expected == Render() else expected)


@properties
@given(buckets(), st.integers(0, 40), st.booleans())
def test_a_deletion_is_final(bucket: Bucket, tombstone: int, lost: bool) -> None:
    for logged in bucket.log:
        assert decide(logged, tombstone, bucket.manifests, original_lost=lost) == Remove(tombstone)


@properties
@given(buckets(), st.integers(0, 999).map(Random), st.booleans())
def test_the_order_in_which_manifests_are_listed_makes_no_difference(
    bucket: Bucket, random: Random, lost: bool
) -> None:
    listed = random.sample(bucket.manifests, len(bucket.manifests))
    for logged in bucket.log:
        expected = decide(logged, None, bucket.manifests, original_lost=lost)
        assert decide(logged, None, listed, original_lost=lost) == expected


@properties
@given(buckets(), st.booleans())
def test_a_failure_changes_nothing_for_other_commands(bucket: Bucket, lost: bool) -> None:
    """What was served before a failed replacement stays, and so does its answer."""
    for logged in bucket.log:
        seen = [each for each in bucket.manifests if isinstance(each.event, Ready) or is_of(each, logged)]
        expected = decide(logged, None, bucket.manifests, original_lost=lost)
        assert decide(logged, None, seen, original_lost=lost) == expected


@properties
@given(buckets(repeats=False), st.booleans())
def test_a_command_is_superseded_exactly_by_the_latest_ready_render_if_that_is_later(
    bucket: Bucket, lost: bool
) -> None:
    """While no command is sent twice, precedence is a total order of the commands."""
    latest = max(bucket.ready, key=lambda each: each.precedence, default=None)
    for logged in bucket.log:
        decision = decide(logged, None, bucket.manifests, original_lost=lost)
        if latest is not None and latest.precedence > logged.precedence:
            assert decision == Supersede(latest)
        else:
            assert not isinstance(decision, Supersede)


@properties
@given(buckets())
def test_within_a_revision_the_later_command_supersedes(bucket: Bucket) -> None:
    """Also where commands are sent twice and a reprocess states the version of the first or of the second."""
    for logged in bucket.log:
        same = [each for each in bucket.manifests if each.event.request.revision == logged.command.revision]
        place = max((each.event.version for each in same if is_of(each, logged)), default=logged.version)
        if any(each.event.version > place for each in same if each in bucket.ready):
            assert isinstance(decide(logged, None, bucket.manifests), Supersede)


@properties
@given(buckets(), st.booleans())
def test_what_supersedes_is_ready_and_of_another_render(bucket: Bucket, lost: bool) -> None:
    for logged in bucket.log:
        decision = decide(logged, None, bucket.manifests, original_lost=lost)
        if isinstance(decision, Supersede):
            assert decision.later in bucket.ready
            assert not is_of(decision.later, logged)


@properties
@given(buckets(), st.booleans())
def test_a_repetition_finds_what_the_first_time_has_left(bucket: Bucket, succeeds: bool) -> None:
    for logged in bucket.log:
        if decide(logged, None, bucket.manifests) == Render():
            made = ready(logged) if succeeds else failed(logged)
            assert decide(logged, None, [*bucket.manifests, made]) == Repeat(made)
            # A worker that has written the manifest decides on that one alone.
            assert decide(logged, None, [made]) == Repeat(made)


@properties
@given(buckets(), st.booleans())
def test_what_has_an_answer_is_never_rendered_again(bucket: Bucket, lost: bool) -> None:
    """Manifests are only ever added while the image lives."""
    for logged in bucket.log:
        answered = False
        for count in range(len(bucket.manifests) + 1):
            decision = decide(logged, None, bucket.manifests[:count], original_lost=lost)
            assert not answered or isinstance(decision, Supersede | Repeat)
            answered = isinstance(decision, Supersede | Repeat)
