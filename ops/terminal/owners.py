"""Owners as people write them on a command line: `type:id`."""

from shared.contract.keys import Owner
from shared.errors import ConfigurationError


def parse_owner(text: str) -> Owner:
    """The owner in `user:1`. Raises ConfigurationError."""
    kind, _, name = text.partition(":")
    try:
        return Owner(type=kind, id=name)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is no owner: write type:id, such as user:1") from error
