"""Writes the contract of the topics to docs/events: `python -m docs.generate.events`."""

from pathlib import Path

from gateway.http.asyncapi import asyncapi
from shared.contract.json_schema import COMMANDS, EVENTS, file_name, published, record_schema
from shared.settings import Settings

TARGET = Path(__file__).parents[2] / "docs" / "events"


def pages() -> dict[str, bytes]:
    """The content of each file of the folder, by its name."""
    found = {file_name(name): published(record_schema(name)) for name in (*EVENTS, *COMMANDS)}
    return found | {"asyncapi.json": published(asyncapi(Settings.model_construct()))}


def main() -> None:
    """Write the files."""
    TARGET.mkdir(exist_ok=True)
    for name, content in pages().items():
        (TARGET / name).write_bytes(content)


if __name__ == "__main__":
    main()
