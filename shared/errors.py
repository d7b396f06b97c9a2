"""The few exception classes: what is permanent and what is worth another try is in the type."""


class ImagepipeError(Exception):
    """Base of every error that this software raises on purpose."""


class Unavailable(ImagepipeError):  # noqa: N818 - a state of the world, not a mistake
    """An engine (Kafka, S3, Cassandra) is away; try again later. `engine` names it."""

    def __init__(self, engine: str, detail: str) -> None:
        super().__init__(f"{engine}: {detail}")
        self.engine = engine
        self.detail = detail


class TooManyDeletions(Unavailable):
    """Cassandra gave up a read that passed too many deleted rows; narrower reads of the same rows may do."""


class UnknownOutcome(Unavailable):
    """Kafka gave no answer in time: the record may or may not be in the log (invariant 8)."""


class NotFound(ImagepipeError):  # noqa: N818
    """The bucket has no object under this key."""


class PreconditionFailed(ImagepipeError):  # noqa: N818
    """A conditional write or copy lost: the object is there already, or has changed."""


class RequestRefused(ImagepipeError):  # noqa: N818
    """The bucket will never take this request, such as one for an impossible key; trying again is no use."""


class ImageRejected(ImagepipeError):  # noqa: N818
    """These bytes are not an image we take or can render.

    `reason` is one of `shared.contract.events.FAILURE_REASONS`; it becomes a problem type at the gateway and the
    `error.type` of a `failed` answer at the processor.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class PoisonRecord(ImagepipeError):  # noqa: N818
    """A record that no version of this software can read; it goes to the DLQ untouched."""


class ConfigurationError(ImagepipeError):
    """A setting, topic, keyspace or bucket is missing or wrong; the message says what to do."""
