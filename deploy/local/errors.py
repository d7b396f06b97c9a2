"""Errors of the local stack: each message is a sentence that names the cause and what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import ImagepipeError

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""What the user can correct: a full disk, and a directory that cannot be written."""


class StackError(ImagepipeError):
    """The stack cannot be started or reached; the message is shown to the user as it is."""


class Interrupted(StackError):  # noqa: N818 - the user's wish, not a mistake
    """Ctrl-C or SIGTERM arrived while the stack was starting."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise StackError where a file below this path, or a file of the caches, cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise StackError(
            f"{error.filename or path} cannot be written ({error.strerror}): make room or make it writable, or choose "
            "another place with --root (data) or IMAGEPIPE_CACHE (downloads)."
        ) from error
