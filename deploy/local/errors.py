"""What can go wrong with the local stack: always a sentence that says what to do."""

from shared.errors import ImagepipeError


class StackError(ImagepipeError):
    """The stack cannot be started or reached; the message is shown to the user as it is."""


class Interrupted(StackError):  # noqa: N818 - the user's wish, not a mistake
    """Ctrl-C or SIGTERM arrived while the stack was starting."""
