"""A command with its version: read from a record, and what follows from the two."""

from types import SimpleNamespace

import pytest

from shared.contract.encoding import encode
from shared.contract.events import Command, Failure, Manifest, Ready
from shared.contract.headers import VERSION_HEADER, ReceivedHeaders
from shared.contract.keys import MAX_BIGINT, answer_version, command_version, new_id
from shared.contract.ladder import Ladder
from shared.contract.logged_command import (
    LoggedCommand,
    LoggedDelete,
    LoggedFence,
    LoggedRenderCommand,
    read_command,
    versioned,
)
from shared.errors import PoisonRecord
from tests.support import records

FIRST = ((VERSION_HEADER, b"4503599627370510"),)


def read(command: Command, headers: ReceivedHeaders = (), *, epoch: int = 1, offset: int = 900) -> LoggedCommand:
    return read_command(SimpleNamespace(value=encode(command), headers=headers, offset=offset), epoch)


class TestReadCommand:
    def test_version_is_that_of_the_offset(self) -> None:
        assert read(records.uploaded(), epoch=2, offset=21).version == (2 << 52) | 42

    def test_version_of_a_redriven_record_is_its_first(self) -> None:
        assert read(records.uploaded(), FIRST).version == 4503599627370510

    @pytest.mark.parametrize("command", [records.deleted(new_id()), records.cleared()])
    def test_version_of_a_redriven_delete_or_fence_is_new(self, command: Command) -> None:
        assert read(command, FIRST).version == command_version(1, 900)

    def test_header_without_a_value_is_absent(self) -> None:
        assert read(records.uploaded(), [(VERSION_HEADER, None)]).version == command_version(1, 900)
        assert read(records.uploaded(), [(VERSION_HEADER, None), *FIRST]).version == 4503599627370510

    def test_highest_version_is_what_cassandra_takes(self) -> None:
        assert read(records.uploaded(), [(VERSION_HEADER, b"%d" % MAX_BIGINT)]).version == 2**63 - 1

    @pytest.mark.parametrize(
        "value", [b"", b"-1", b"12x", "\u0661\u0662".encode(), b"%d" % 2**63, b"9" * 5000, b"12\n"]
    )
    def test_header_that_is_no_version_is_poison(self, value: bytes) -> None:
        with pytest.raises(PoisonRecord):
            read(records.uploaded(), [(VERSION_HEADER, value)])

    @pytest.mark.parametrize("value", [None, b"", b"not json", b"{}"])
    def test_value_that_is_no_command_is_poison(self, value: bytes | None) -> None:
        with pytest.raises(PoisonRecord):
            read_command(SimpleNamespace(value=value, headers=(), offset=1), 1)

    @pytest.mark.parametrize(
        ("command", "kind"),
        [
            (records.uploaded(), LoggedRenderCommand),
            (records.replaced(new_id(), 10), LoggedRenderCommand),
            (records.reprocess(new_id(), 10, new_id(), 14), LoggedRenderCommand),
            (records.deleted(new_id()), LoggedDelete),
            (records.cleared(), LoggedFence),
        ],
    )
    def test_class_is_that_of_the_command(self, command: Command, kind: type[LoggedCommand]) -> None:
        assert read(command) == versioned(command, command_version(1, 900))
        assert type(read(command)) is kind


def test_versions_that_a_command_introduces() -> None:
    image, revision = new_id(), new_id()
    upload = LoggedRenderCommand(records.uploaded(image, revision), 20)
    replacement = LoggedRenderCommand(records.replaced(image, 10, revision), 20)
    again = LoggedRenderCommand(records.reprocess(image, 10, revision, 14), 20)
    assert [logged.image_version for logged in (upload, replacement, again)] == [20, 10, 10]
    assert [logged.revision_version for logged in (upload, replacement, again)] == [20, 20, 14]
    assert [logged.precedence for logged in (upload, replacement, again)] == [(20, 20), (20, 20), (14, 20)]
    assert again.request.revision_version == 14


def test_render_of_a_reprocess_has_its_own_folder() -> None:
    image, revision, ladder = new_id(), new_id(), Ladder()
    assert LoggedRenderCommand(records.uploaded(image, revision), 20).render == ladder.digest
    again = records.reprocess(image, 10, revision, 14, ladder=ladder)
    assert LoggedRenderCommand(again, 20).render == f"{ladder.digest}-20"


def test_an_answer_states_the_command_and_a_manifest_stands_where_the_command_does() -> None:
    image, revision = new_id(), new_id()
    again = LoggedRenderCommand(records.reprocess(image, 10, revision, 14), 20)
    answer = again.failed(Failure(type="truncated", detail="The file ends early."))
    assert (answer.image_id, answer.owner, answer.request) == (image, records.OWNER, again.request)
    assert (answer.answers, answer.version, answer.image_version) == ("image.reprocess", 20, 10)
    assert Manifest(render=again.render, event=answer).precedence == again.precedence


def test_a_manifest_answers_a_repeated_command_with_what_was_rendered_first() -> None:
    upload = records.uploaded()
    first, second = LoggedRenderCommand(upload, 10), LoggedRenderCommand(upload, 30)
    current = records.current(upload.image_id, upload.revision, 10, first.render)
    answer = second.answered(Manifest(render=first.render, event=first.ready(current)))
    assert isinstance(answer, Ready)
    assert answer == second.ready(current)
    assert (answer.version, answer.current.revision_version) == (30, 10)


def test_a_superseded_answer_names_the_later_render() -> None:
    upload = LoggedRenderCommand(records.uploaded(), 10)
    later = Manifest(render="0" * 16, event=records.failed(upload.command.image_id, new_id(), 40))
    by = upload.superseded(later).superseded_by
    assert (by.revision, by.revision_version, by.render) == (later.event.request.revision, 40, "0" * 16)


@pytest.mark.parametrize(("tombstone", "removed"), [(13, 21), (31, 31)])
def test_a_removed_answer_carries_the_higher_version(tombstone: int, removed: int) -> None:
    for command in (records.uploaded(), records.deleted(new_id())):
        logged = versioned(command, 20)
        assert not isinstance(logged, LoggedFence)
        answer = logged.removed(tombstone)
        assert (answer.version, answer.answers, answer.removed_version) == (20, command.type, removed)
        assert logged.answer_version == answer_version(20)


def test_a_fence_is_bounded_by_its_version_where_it_has_no_bound() -> None:
    assert LoggedFence(records.cleared(), 20).before == 20
    assert LoggedFence(records.cleared(), 20).bounded == records.cleared(20)
    assert LoggedFence(records.cleared(6), 20).before == 6
    assert LoggedFence(records.cleared(6), 20).bounded == records.cleared(6)
