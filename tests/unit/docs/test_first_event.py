"""The page of the events has the blocks that `make first-event` runs."""

import ast

import pytest

from docs.first_event import PAGE, blocks
from shared.errors import ConfigurationError


def test_the_page_has_the_blocks_of_a_first_event() -> None:
    start, (name, source), consume, upload = blocks(PAGE.read_text())
    assert start == "make up\n"
    assert ast.parse(source).body
    assert consume.splitlines()[-1] == f".venv/bin/python {name}"
    assert upload.startswith("curl ")


def test_a_page_of_another_form_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="four blocks"):
        blocks(PAGE.read_text().replace("Save this as", "Keep this as"))
