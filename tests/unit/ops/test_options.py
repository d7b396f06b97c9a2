"""Owners as an operator types them."""

import pytest

from ops.terminal.options import parse_owner
from shared.contract.keys import Owner
from shared.errors import ConfigurationError


def test_owners_are_parsed() -> None:
    assert parse_owner("user:1") == Owner(type="user", id="1")
    assert parse_owner("user:a:b") == Owner(type="user", id="a:b")
    for text in ("user", ":1", "User:1", "user:"):
        with pytest.raises(ConfigurationError):
            parse_owner(text)
