"""Client of imagepipe, sync and async: `Client` and `AsyncClient`. docs/client.md describes it."""

from imagepipe_client.async_client import AsyncClient
from imagepipe_client.documents import (
    Event,
    Failure,
    Image,
    Original,
    Owner,
    Pending,
    Resync,
    Snapshot,
    TemporaryKeys,
    Variant,
)
from imagepipe_client.errors import (
    Conflict,
    ConnectionFailed,
    FileRefused,
    ImagepipeError,
    InternalError,
    InvalidRequest,
    NotFound,
    NotRendered,
    PreconditionFailed,
    Problem,
    Unavailable,
    WaitTimedOut,
)
from imagepipe_client.files import File
from imagepipe_client.retrying import Retry
from imagepipe_client.sync_client import Client

__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Event",
    "Failure",
    "File",
    "FileRefused",
    "Image",
    "ImagepipeError",
    "InternalError",
    "InvalidRequest",
    "NotFound",
    "NotRendered",
    "Original",
    "Owner",
    "Pending",
    "PreconditionFailed",
    "Problem",
    "Resync",
    "Retry",
    "Snapshot",
    "TemporaryKeys",
    "Unavailable",
    "Variant",
    "WaitTimedOut",
]
