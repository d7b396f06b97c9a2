"""Releases: today's contract can be read by readers of the last one, and what was released does not change."""

import json
from datetime import date
from pathlib import Path

import pytest

from docs.generate import release
from docs.generate.compatibility import breaking_changes
from docs.generate.events import pages
from docs.generate.release import (
    RELEASED,
    SUMS,
    ReleaseError,
    checksums,
    contract_of,
    released_versions,
    with_section,
    write_contract,
)

TODAY = date(2026, 11, 27)


def test_the_contract_is_compatible_with_the_last_release() -> None:
    assert breaking_changes(contract_of(released_versions()[-1]), pages()) == []


@pytest.mark.parametrize("version", released_versions())
def test_what_was_released_is_as_the_release_wrote_it(version: str) -> None:
    assert (RELEASED / version / SUMS).read_text() == checksums(contract_of(version))


def test_a_change_that_breaks_readers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_contract("0.9.0", tmp_path)
    changed = pages()
    schema = json.loads(changed["image.ready.v1.json"])
    del schema["$defs"]["Variant"]["properties"]["width"]
    changed["image.ready.v1.json"] = json.dumps(schema).encode()
    del changed["image.failed.v1.json"]
    monkeypatch.setattr(release, "pages", lambda: changed)
    with pytest.raises(ReleaseError) as refused:
        write_contract("0.10.0", tmp_path)
    lines = str(refused.value).splitlines()
    assert lines[0] == "This breaks readers of 0.9.0:"
    assert lines[1] == "image.failed.v1.json was removed. Keep it as long as Kafka has its records."
    assert lines[2].startswith("image.ready.v1.json: `current.variants[].width` was removed. Keep it as it was")
    assert released_versions(tmp_path) == ["0.9.0"]


def test_a_release_is_not_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_contract("0.1.0", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    write_contract("0.1.0", tmp_path)
    monkeypatch.setattr(release, "pages", lambda: pages() | {"asyncapi.json": b"{}\n"})
    with pytest.raises(ReleaseError, match="raise the version"):
        write_contract("0.1.0", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_versions_are_ordered_by_number(tmp_path: Path) -> None:
    for version in ("0.10.0", "0.9.1", "0.2.0"):
        (tmp_path / version).mkdir()
    assert released_versions(tmp_path) == ["0.2.0", "0.9.1", "0.10.0"]
    assert released_versions(tmp_path / "missing") == []


def test_the_unreleased_lines_get_a_section() -> None:
    before = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A line.\n"
    after = with_section(before, "0.1.0", TODAY)
    assert after == "# Changelog\n\n## Unreleased\n\n## 0.1.0 - 2026-11-27\n\n### Added\n\n- A line.\n"
    # The release may be repeated, for example after a failed build.
    assert with_section(after, "0.1.0", TODAY) == after
    with pytest.raises(ReleaseError, match="nothing under"):
        with_section(after, "0.2.0", TODAY)
