"""Links, paths and names in the documentation: each leads to a file, a heading, or a name in the code."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "deploy/cdn/README.md",
    ROOT / "tests/data/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = "bench|client|deploy|docs|gateway|indexer|ops|processor|shared|tests"
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")
NAME = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")
OF_LIBRARIES = ("process_", "python_", "parentbased_")
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./-]*)(?:::\w+)?`")


def found(pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    return [(str(page.relative_to(ROOT)), match) for page in PAGES for match in pattern.finditer(page.read_text())]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    names = []
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.append(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return set(names)


LINKS = sorted({(page, match[1], match[2] or "") for page, match in found(LINK)})
NAMES = sorted(
    {
        (page, match[1])
        for page, match in found(NAME)
        if page.startswith(("docs/observability", "docs/runbooks/")) and not match[1].startswith(OF_LIBRARIES)
    }
)
PATHS = sorted({(page, match[1]) for page, match in found(PATH)})


@pytest.mark.parametrize(("page", "link", "anchor"), LINKS)
def test_a_link_leads_to_a_file_and_a_heading(page: str, link: str, anchor: str) -> None:
    target = (ROOT / page).parent / link if link else ROOT / page
    assert target.exists(), f"{page}: {link}"
    if anchor:
        assert anchor in anchors(target), f"{page}: {link}#{anchor}"


@pytest.mark.parametrize(("page", "path"), PATHS)
def test_a_path_in_backticks_exists(page: str, path: str) -> None:
    assert (ROOT / path).exists(), f"{page}: {path}"


@pytest.fixture(scope="module")
def words() -> frozenset[str]:
    """Every word in the code of the services and of the operators' command."""
    folders = (ROOT / folder for folder in ("gateway", "processor", "indexer", "shared", "ops"))
    return frozenset(
        word for folder in folders for file in folder.rglob("*.py") for word in re.findall(r"\w+", file.read_text())
    )


@pytest.mark.parametrize(("page", "name"), NAMES)
def test_an_event_field_or_metric_that_operators_search_for_exists(page: str, name: str, words: frozenset[str]) -> None:
    assert name in words, f"{page}: {name}"


def test_links_paths_and_names_are_found() -> None:
    assert len(LINKS) > 100
    assert len(PATHS) > 30
    assert len(NAMES) > 30
