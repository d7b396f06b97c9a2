"""The ladder: what its digest depends on, and the variants that it asks for."""

import json

import pytest
from pydantic import ValidationError

from shared.contract.encoding import decode_command, encode
from shared.contract.ladder import PRESETS, Ladder, Rung
from shared.errors import PoisonRecord
from tests.support import records

EVERYTHING = Ladder(avif_quality=60, share_quality=85)


def test_the_default_ladder_has_the_digest_of_the_first_release() -> None:
    """If it changed, each image would be rendered again."""
    assert Ladder().digest == "d8fc9db2e46536a7"


def test_the_presets_have_fixed_digests_and_the_same_variants() -> None:
    """If one changed, `imagepipe reprocess` would render each of its images again."""
    assert {name: ladder.digest for name, ladder in PRESETS.items()} == {
        "default": "d8fc9db2e46536a7",
        "fast": "48df4fe2d2a63bc9",
    }
    sizes = [[(rung.name, rung.width, rung.fraction) for rung in ladder.variants] for ladder in PRESETS.values()]
    assert sizes[0] == sizes[1]


def test_a_command_names_no_preset() -> None:
    """A command carries its ladder in full, so that a later release that changes a preset does not change the log."""
    document = json.loads(encode(records.uploaded(ladder=Ladder())))
    with pytest.raises(PoisonRecord):
        decode_command(json.dumps(document | {"ladder": "fast"}).encode())


def test_fields_at_their_defaults_are_in_no_record() -> None:
    """A processor of the version before would refuse a command with a field that it does not know."""
    found = json.loads(encode(records.uploaded(ladder=Ladder())))["ladder"]
    assert set(found) == {"full_quality", "method", "rungs"}
    assert all(set(rung) == {"name", "width", "fraction", "quality"} for rung in found["rungs"])


def test_other_fields_are_in_the_record_and_change_the_digest() -> None:
    jpeg = Ladder(rungs=(Rung(name="small", width=320, fraction=0.25, quality=75, format="jpeg"),))
    webp = Ladder(rungs=(Rung(name="small", width=320, fraction=0.25, quality=75),))
    ladders = [Ladder(), EVERYTHING, Ladder(avif_quality=60), Ladder(avif_quality=61), Ladder(share_quality=85), jpeg]
    assert len({ladder.digest for ladder in [*ladders, webp]}) == 7
    for ladder in ladders:
        command = decode_command(encode(records.uploaded(ladder=ladder)))
        assert command.ladder == ladder  # type: ignore[union-attr]


def test_the_optional_variants_come_after_the_others() -> None:
    assert EVERYTHING.names == (
        "full", "large", "medium", "small", "large_avif", "medium_avif", "small_avif", "share",
    )  # fmt: skip
    types = [rung.content_type for rung in EVERYTHING.variants]
    assert types == ["image/webp"] * 4 + ["image/avif"] * 3 + ["image/jpeg"]
    assert {rung.quality for rung in EVERYTHING.variants if rung.format == "avif"} == {60}


@pytest.mark.parametrize(("original", "share"), [(4000, 1200), (1200, 1200), (1199, 1199), (1, 1)])
def test_share_is_never_wider_than_the_original(original: int, share: int) -> None:
    assert EVERYTHING.variants[-1].width_for(original) == share


@pytest.mark.parametrize(
    "fields",
    [
        {"share_quality": 85, "rungs": [{"name": "share", "width": 9, "fraction": 1, "quality": 9}]},
        {"rungs": [{"name": "full", "width": 9, "fraction": 1, "quality": 9}]},
        {"rungs": [{"name": "small", "width": 9, "fraction": 1, "quality": 9, "format": "gif"}]},
        {"avif_quality": 60, "rungs": [{"name": "a" * 30, "width": 9, "fraction": 1, "quality": 9}]},
        {"avif_quality": 0},
    ],
)
def test_a_ladder_that_cannot_be_rendered_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Ladder.model_validate(fields)
