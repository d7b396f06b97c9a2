"""Prose uses the field's standard words: the words in RETIRED appear in no docstring, comment, help text or page."""

import ast
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
RETIRED = {
    r"(?:is|are|was|were|being|be) away": "is unavailable",
    r"engines? away": "engine unavailable",
    r"(?:kafka|cassandra|s3|engines?|brokers?|stores?|servers?|nodes?) (?:comes?|came) back": "is available again",
    r"told|tells?": "reports, returns, notifies, logs",
    r"says? so|said so": "reports it",
    r"mend(?:s|ed|ing)?": "repair",
    r"look(?:s|ed|ing)? at": "check, read",
    r"takes? in|taken in|took in": "accepts",
    r"buried|bury|buries": "a tombstone exists, dead-letter",
    r"patien(?:ce|t)": "retry deadline",
    r"surpris(?:e|es|ed|ing)|unforeseen|foresaw|foresee": "unexpected error",
    r"vouch(?:es|ed)?": "trusted",
    r"foreign": "untrusted, of another system",
    r"not understood": "invalid",
    r"for ever": "permanently, or leave it out",
    r"meanwhile": "leave it out",
    r"nobody|whoever|whatever|whichever": "name the actor or the thing",
}
"""Retired expression (a regular expression of whole words) to what is written instead."""
ALLOWED = {
    "CHANGELOG.md": "quotes the names that were renamed",
    "tests/unit/docs/test_language.py": "holds the list",
}
"""Files that may hold retired words, each with the reason."""
HELP_ARGUMENTS = {"help", "short_help", "description", "title", "summary", "epilog"}
"""Keyword arguments whose string a person reads: help of commands and options, descriptions of settings and fields."""
PATTERN = re.compile(rf"\b(?:{'|'.join(RETIRED)})\b", re.IGNORECASE)


class Prose(NamedTuple):
    """A piece of text that a person reads, and the line where it begins."""

    line: int
    text: str


def tracked(*patterns: str) -> list[str]:
    """Files in the repository, where there is one, else files on disk (a source archive has no repository)."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [path for path in listed.stdout.splitlines() if (ROOT / path).is_file()]
    skipped = {".venv", ".uv", "build", "dist"}
    found = (path.relative_to(ROOT) for pattern in patterns for path in ROOT.rglob(pattern))
    return sorted(str(path) for path in found if not skipped & set(path.parts))


def code_prose(path: Path) -> Iterator[Prose]:
    """Docstrings (attributes' too), help arguments and comments of a Python file."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield Prose(node.lineno, text)
            case ast.keyword(arg=name, value=value) if name in HELP_ARGUMENTS:
                texts = (part for part in ast.walk(value) if isinstance(part, ast.Constant))
                yield from (Prose(text.lineno, text.value) for text in texts if isinstance(text.value, str))
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield Prose(token.start[0], token.string)


def page_prose(path: Path) -> Iterator[Prose]:
    """Lines of a page without its code blocks and code spans."""
    in_block = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_block = not in_block
        elif not in_block:
            yield Prose(number, re.sub(r"`[^`]*`", "", line))


def retired_words(path: str) -> list[str]:
    """Each retired word of the file, with its place and what to write instead."""
    prose = code_prose(ROOT / path) if path.endswith(".py") else page_prose(ROOT / path)
    found = []
    for line, text in prose:
        for match in PATTERN.finditer(text):
            place = line + text.count("\n", 0, match.start())
            better = next(new for old, new in RETIRED.items() if re.fullmatch(old, match[0], re.IGNORECASE))
            found.append(f"{path}:{place}: {match[0]!r}: write {better!r}")
    return found


def folder(path: str) -> str:
    """The top-level folder of a file; files of the top level count as one folder."""
    return path.split("/", maxsplit=1)[0] if "/" in path else "top level"


FILES = [path for path in tracked("*.py", "*.md") if path not in ALLOWED]


@pytest.mark.parametrize("name", sorted({folder(path) for path in FILES}))
def test_prose_has_no_retired_word(name: str) -> None:
    assert [found for path in FILES if folder(path) == name for found in retired_words(path)] == []


def test_the_search_finds_a_retired_word_in_every_kind_of_prose(tmp_path: Path) -> None:
    source = tmp_path / "example.py"
    source.write_text('"""Nobody reads this."""\nx = f(help="who tells it")  # for ever\ny = "nobody"\n')

    found = [prose.text for prose in code_prose(source) if PATTERN.search(prose.text)]

    assert found == ["Nobody reads this.", "who tells it", "# for ever"]
