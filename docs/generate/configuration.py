"""Writes docs/configuration.md from the settings class: `python -m docs.generate.configuration`."""

import builtins
import re
import types
import typing
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from shared.settings import MIB, Settings

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "configuration.md"
SOURCE = ROOT / "shared" / "settings.py"
HEAD = """# Configuration

`make docs` writes this page from `shared/settings.py`. A test fails if the page is out of date.

Every service and the `imagepipe` command read the same settings. A variable in the environment wins over the same
variable in a file `.env` in the working directory. An empty variable counts as unset. If a value is invalid, the
process names the setting in a sentence and ends at its start, a service with exit code 2.

- Durations are seconds (`20`), ISO 8601 (`PT20S`, `PT1H`, `P1D`) or `hh:mm:ss`.
- Lists are comma-separated. Booleans are `true` or `false`.
- Secrets never appear in logs.
"""
LADDER_HEAD = """## Default of LADDER

The rungs go from large to small. A variant is at most `width` pixels wide, and at most `fraction` of the width of the
original.
"""
PLAIN_TYPES = {str: "text", int: "number", bool: "boolean", timedelta: "duration", SecretStr: "secret"}
UNITS = {"bytes": "bytes", "memory": "bytes", "rate": "bytes/s", "pixels": "pixels", "side": "pixels"}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def unit(name: str, field: FieldInfo) -> str:
    """Unit of a setting's value; empty if it has none."""
    return "ISO 8601" if field.annotation is timedelta else UNITS.get(name.rpartition("_")[2], "")


def type_name(annotation: Any) -> str:
    """Name of a type for people."""
    if annotation in PLAIN_TYPES:
        return PLAIN_TYPES[annotation]
    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case typing.Literal:
            return ", ".join(f"`{choice}`" for choice in arguments)
        case types.UnionType | typing.Union:
            return next(type_name(each) for each in arguments if each is not type(None))
        case typing.Annotated:
            return "path" if arguments[0] is Path else type_name(arguments[0])
        case builtins.tuple:
            return "list"
    return "JSON"


def bounds(field: FieldInfo) -> str:
    """Bounds of the accepted values; empty if there are none."""
    limits = [(sign, getattr(each, name, None)) for each in field.metadata for name, sign in SIGNS.items()]
    return ", ".join(f"{sign} {limit}" for sign, limit in limits if limit is not None)


def default(field: FieldInfo) -> str:
    """Default value, written as in the environment."""
    value = field.get_default(call_default_factory=True)
    match value:
        case None | "" | ():
            return "unset"
        case BaseModel():
            return "see below"
        case timedelta():
            text = to_json(value).decode().strip('"')
        case bool():
            text = str(value).lower()
        case tuple():
            text = ",".join(value)
        case _:
            text = str(value)
    mebibytes = f" ({value // MIB} MiB)" if isinstance(value, int) and value >= MIB and value % MIB == 0 else ""
    return f"`{text}`{mebibytes}"


def sections() -> dict[str, list[str]]:
    """Names of the settings by heading. The headings are comments in the class."""
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
    annotations = typing.get_type_hints(Settings, include_extras=True)
    lines = [HEAD]
    for heading, names in sections().items():
        lines += [f"## {heading}", "", "| variable | type | default | unit | meaning |", "|---|---|---|---|---|"]
        for name in names:
            field = Settings.model_fields[name]
            kind = ", ".join(filter(None, (type_name(annotations[name]), bounds(field))))
            text = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{name.upper()}` | {kind} | {default(field)} | {unit(name, field)} | {text} |")
        lines.append("")
    ladder = to_json(Settings.model_fields["ladder"].get_default(call_default_factory=True), indent=2).decode()
    return "\n".join([*lines, LADDER_HEAD, "```json", ladder, "```", ""])


if __name__ == "__main__":
    TARGET.write_text(page())
