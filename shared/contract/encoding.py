"""Converts commands, events and manifests to JSON and back."""

from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from shared.contract.events import (
    SCHEMA_VERSION,
    Command,
    Deleted,
    Event,
    Failed,
    Manifest,
    Model,
    OwnerCleared,
    Ready,
    Removed,
    Replaced,
    Reprocess,
    Superseded,
    Uploaded,
)
from shared.errors import PoisonRecord

T = TypeVar("T")

_COMMAND: TypeAdapter[Command] = TypeAdapter(
    Annotated[Uploaded | Replaced | Deleted | Reprocess | OwnerCleared, Field(discriminator="type")]
)
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Ready | Failed | Superseded | Removed, Field(discriminator="type")])
_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def encode(model: Model) -> bytes:
    """JSON of a command, event or manifest."""
    return model.model_dump_json().encode()


def decode_command(value: bytes | None) -> Command:
    """The command in a record's value. Raises PoisonRecord for anything else."""
    return _decode(_COMMAND, value)


def decode_event(value: bytes | None) -> Event:
    """The event in a record's value. Raises PoisonRecord for anything else."""
    return _decode(_EVENT, value)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in an object. Raises PoisonRecord for anything else."""
    return _decode(_MANIFEST, data)


def _decode(adapter: TypeAdapter[T], value: bytes | None) -> T:
    if value is None:
        raise PoisonRecord("the record has no value")
    try:
        return adapter.validate_json(value)
    except ValidationError as error:
        # The message goes to logs and to headers of the DLQ, so it must not contain the input.
        detail = error.errors(include_url=False, include_input=False, include_context=False)
        raise PoisonRecord(f"not a record of schema version {SCHEMA_VERSION}: {detail[:3]}") from None
