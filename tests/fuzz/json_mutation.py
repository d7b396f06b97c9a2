"""Mutation of JSON documents: a change of single bytes gives a document that is refused at once, nearly always."""

import json
from random import Random
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 10**30, 0.5, 1e308, "", "0", "1", "-1",
    str(2**63), "9" * 4301, "\0", "\u202e", "\U0001f600", "x" * 200, "ffffffff-ffff-7fff-bfff-ffffffffffff",
    "019df289-a440-7000-8000-1a2b3c4d5e6f", "image.ready", "image.uploaded", "owner.cleared", "rendered", "rejected",
    "failed", "corrupt", "#00ff00", "../../x", [], {}, [[]], {"": {}},
)  # fmt: skip


def mutated_json(document: bytes, chance: Random) -> bytes:
    """The document with a value changed, removed, repeated or added, at any depth; other bytes as they are."""
    try:
        root = [json.loads(document)]
    except (ValueError, RecursionError):
        return document
    _change(root, chance)
    return json.dumps(root[0] if root else None, ensure_ascii=chance.random() < 0.5, separators=(",", ":")).encode(
        errors="surrogatepass"
    )


def _change(container: Any, chance: Random) -> None:
    places = list(container) if isinstance(container, dict) else list(range(len(container)))
    if not places:
        return
    place = chance.choice(places)
    value = container[place]
    if isinstance(value, dict | list) and value and chance.random() < 0.8:
        _change(value, chance)
    elif chance.random() < 0.2:
        del container[place]
    elif isinstance(container, list) and chance.random() < 0.2:
        container.append(value)
    elif isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        container[place] = value + chance.choice((-1, 1, value, -2 * value))
    elif isinstance(container, dict) and chance.random() < 0.2:
        container[chance.choice(places)] = value
    else:
        container[place] = chance.choice(VALUES)
