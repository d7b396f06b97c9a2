"""What was made of a row is used again until the row changes."""

from dataclasses import replace

from gateway.reading.kept import KeptForRows
from shared.contract.keys import Owner, new_id, uploaded_at
from shared.read_model.documents import ImageRow


def row_of(version: int = 1) -> ImageRow:
    image_id = new_id()
    return ImageRow(image_id, Owner(type="user", id="1"), uploaded_at(image_id), version, None, None, None)


def test_a_result_is_made_once_for_a_row_and_again_after_a_change() -> None:
    made: list[ImageRow] = []
    kept = KeptForRows(lambda row: made.append(row) or row.image_version, 2)  # type: ignore[func-returns-value]
    row, other = row_of(1), row_of(1)
    assert [kept.of(row), kept.of(replace(row)), kept.of(other)] == [1, 1, 1]
    assert made == [row, other]
    changed = replace(row, image_version=2)
    assert [kept.of(changed), kept.of(changed), kept.of(row)] == [2, 2, 1]
    assert made == [row, other, changed, row]


def test_only_so_many_results_are_kept() -> None:
    made: list[ImageRow] = []
    kept = KeptForRows(made.append, 1)
    row, other = row_of(), row_of()
    for each in (row, other, row):
        kept.of(each)
    assert made == [row, other, row]
