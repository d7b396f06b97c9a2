"""The exception classes. The class of an error says whether a retry can help."""


class ImagepipeError(Exception):
    """Base class of all errors of this software."""


class Unavailable(ImagepipeError):  # noqa: N818 - a state of the world, not a mistake
    """An engine (Kafka, S3 or Cassandra) is unavailable: retry later. `engine` is its name."""

    def __init__(self, engine: str, detail: str) -> None:
        super().__init__(f"{engine}: {detail}")
        self.engine = engine
        self.detail = detail


class TooManyDeletions(Unavailable):
    """Cassandra aborted a read that scanned too many deleted rows. Reads of smaller ranges may succeed."""


class UnknownOutcome(Unavailable):
    """Kafka did not acknowledge a record in time. The record may be in the log or not (invariant 8)."""


class NotFound(ImagepipeError):  # noqa: N818
    """The bucket has no object under this key."""


class PreconditionFailed(ImagepipeError):  # noqa: N818
    """A conditional write or copy failed, because the object exists already or has changed."""


class RequestRefused(ImagepipeError):  # noqa: N818
    """The S3 store never accepts this request, for example because of an invalid key. A retry does not help."""


class ImageRejected(ImagepipeError):  # noqa: N818
    """The bytes are not an image that this software accepts or can render.

    `reason` is one of `shared.contract.events.FAILURE_REASONS`; it becomes a problem type at the gateway and the
    `error.type` of a `failed` answer at the processor.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class PoisonRecord(ImagepipeError):  # noqa: N818
    """A record that this software can never handle, for example because it cannot be parsed. It goes to the DLQ."""


class RecordTooLarge(ImagepipeError):  # noqa: N818
    """Kafka will never accept this record, because it is larger than its topic allows. Nothing was written."""


class ConfigurationError(ImagepipeError):
    """A setting, a topic, a keyspace or the bucket is missing or wrong. The message says what to do."""
