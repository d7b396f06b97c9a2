"""Writes docs/configuration.md from the settings class: `python docs/make_configuration.py`."""

import re
import typing
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, Literal

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from shared.settings import MIB, Settings

TARGET = Path(__file__).parent / "configuration.md"
SOURCE = Path(__file__).parent.parent / "shared" / "settings.py"
HEAD = """# Configuration

Written by `python docs/make_configuration.py` from `shared/settings.py`; a test fails when this page is stale.

Every service and the `imagepipe` command read the same settings, from the environment first and then from a file `.env`
in the working directory. An empty variable is an unset one. A wrong value ends the process at its start, with the name
of the setting. Durations are seconds (`20`), ISO 8601 (`PT20S`, `P1D`) or `[days] hh:mm:ss`; lists are comma-separated;
booleans are `true` or `false`. Secrets never appear in logs.
"""
UNITS = {"bytes": "bytes", "pixels": "pixels", "side": "pixels"}


def unit(name: str, field: FieldInfo) -> str:
    """Unit of a setting's value, empty where it has none."""
    if field.annotation is timedelta:
        return "seconds"
    return UNITS.get(name.rpartition("_")[2], "")


def type_name(annotation: Any) -> str:
    """A type as people write it."""
    if annotation is timedelta:
        return "duration"
    if annotation is SecretStr:
        return "secret"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (UnionType, typing.Union):
        return next(type_name(each) for each in arguments if each is not type(None))
    if origin is typing.Annotated:
        return "path" if "path" in repr(arguments).lower() else type_name(arguments[0])
    if origin is tuple:
        return "list"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "JSON"
    return {str: "text", int: "number", bool: "boolean"}[annotation]


def bounds(field: FieldInfo) -> str:
    """What values are accepted, empty where any is."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [f"{signs[name]} {value}" for each in field.metadata for name in signs
             if (value := getattr(each, name, None)) is not None]  # fmt: skip
    return ", ".join(found)


def default(field: FieldInfo) -> str:
    """Default value as one would set it."""
    value = field.get_default(call_default_factory=True)
    if value is None or value == "":
        return "unset"
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return f"`{seconds:g}`" if seconds < 120 else f"`{to_json(value).decode().strip(chr(34))}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value % MIB == 0 and value:
        return f"`{value}` ({value // MIB} MiB)"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{value}`"


def sections() -> dict[str, list[str]]:
    """Names of the settings under the headings (comments) that the class has for them."""
    found: dict[str, list[str]] = {"": []}
    current = ""
    for line in SOURCE.read_text().splitlines():
        if heading := re.fullmatch(r"    # (\w[\w ]*)", line):
            current = heading[1]
            found.setdefault(current, [])
        elif (field := re.match(r"    (\w+): ", line)) and field[1] in Settings.model_fields:
            found[current].append(field[1])
    return {heading: names for heading, names in found.items() if names}


def page() -> str:
    """The whole document."""
    lines = [HEAD]
    for heading, names in sections().items():
        lines += [f"## {heading}", "", "| variable | type | default | unit | why |", "|---|---|---|---|---|"]
        for name in names:
            field = Settings.model_fields[name]
            kind = ", ".join(filter(None, (type_name(_annotated(name)), bounds(field))))
            text = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{name.upper()}` | {kind} | {default(field)} | {unit(name, field)} | {text} |")
        lines.append("")
    ladder = to_json(Settings.model_fields["ladder"].get_default(call_default_factory=True), indent=2).decode()
    lines += ["## Default of LADDER", "", "Rungs go from large to small; a variant is never wider than `width` pixels, nor",
              "than `fraction` of the original.", "", "```json", ladder, "```", ""]  # fmt: skip
    return "\n".join(lines)


def _annotated(name: str) -> Any:
    return typing.get_type_hints(Settings, include_extras=True)[name]


if __name__ == "__main__":
    TARGET.write_text(page())
