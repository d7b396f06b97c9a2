"""Checks an uploaded file before the gateway stores it."""

import asyncio
import hashlib
from dataclasses import dataclass

from gateway.http.problems import Problem
from gateway.receiving.multipart import FormFile, too_large
from shared.contract.image_header import ImageInfo, inspect
from shared.errors import ImageRejected

OFF_LOOP_BYTES = 128 * 1024
"""A file of this size takes almost a millisecond to hash and to parse. A larger one is checked in a thread."""


@dataclass(frozen=True)
class FileLimits:
    """Limits of a file: its bytes, the pixels of one frame, and the pixels of one side."""

    file_bytes: int
    pixels: int
    side: int


@dataclass(frozen=True)
class CheckedFile:
    """An acceptable file: its cleaned name, its bytes, what its headers say, and its SHA-256 in hex."""

    name: str
    data: bytes
    info: ImageInfo
    sha256: str


async def check_file(file: FormFile, limits: FileLimits) -> CheckedFile:
    """Check that the file is an image within the limits. Raises Problem with status 413, 415 or 422."""
    if file.data is None or len(file.data) > limits.file_bytes:
        raise too_large(limits.file_bytes)
    if len(file.data) < OFF_LOOP_BYTES:
        return _check(file.name, file.data, limits)
    return await asyncio.to_thread(_check, file.name, file.data, limits)


def _check(name: str, data: bytes, limits: FileLimits) -> CheckedFile:
    try:
        info = inspect(data, max_pixels=limits.pixels, max_side=limits.side)
    except ImageRejected as error:
        raise Problem(error.reason, error.detail) from error
    return CheckedFile(name, data, info, hashlib.sha256(data).hexdigest())
