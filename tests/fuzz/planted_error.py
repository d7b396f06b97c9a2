"""A harness with an error that only the guidance by coverage finds: it shows that the fuzzer works and reports."""

from collections.abc import Iterator
from random import Random

NEEDLE = b"bug"


def check(data: bytes) -> None:
    """Raise for each input that begins with NEEDLE. Each right byte is a step of its own for the fuzzer."""
    for place, byte in enumerate(NEEDLE):
        if place >= len(data) or data[place] != byte:
            return
    raise ValueError("the planted error")


def mutate(data: bytes, _chance: Random) -> bytes:
    """No mutation of its own."""
    return data


def seeds() -> Iterator[bytes]:
    """One input that shares nothing with NEEDLE."""
    yield b"..."
