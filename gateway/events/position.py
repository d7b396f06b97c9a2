"""The position of a listener in the topic of events, as the opaque `id` of server-sent events."""

import base64
import binascii
from collections.abc import Iterator
from typing import NamedTuple, Self

from shared.contract.keys import MAX_BIGINT

MAX_TEXT = 16_384
"""Characters of a position. A thousand partitions with large offsets need 12,000."""


class Position(NamedTuple):
    """The next offset of each partition. A stream merges partitions, so one offset would not be enough.

    `epoch` is the deployment's: after a restore to another cluster, offsets have another meaning.
    """

    epoch: int
    offsets: tuple[int, ...]

    def __str__(self) -> str:
        """The opaque text: base64url of numbers with 7 bits in each byte, 40 to 90 characters for 8 partitions."""
        data = b"".join(map(_packed, (self.epoch, len(self.offsets), *self.offsets)))
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The position of a text that `str` has made; None for any other text."""
        if len(text) > MAX_TEXT or not text.isascii():
            return None
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            epoch, count, *offsets = _numbers(data)
        except (binascii.Error, ValueError):
            return None
        found = cls(epoch, tuple(offsets))
        # The comparison refuses texts that mean the same and are written differently.
        return found if count == len(offsets) and str(found) == text else None


def _packed(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        if number > MAX_BIGINT:
            raise ValueError("larger than any offset")
        shift += 7
        if not byte & 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("ends within a number")
