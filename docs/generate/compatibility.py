"""What in a new schema of a record breaks its readers within one schema version."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Schema = dict[str, Any]

ADVICE = "Keep it as it was, or give the new form a new schema version on a new topic (docs/events.md)."


class Field(NamedTuple):
    """What a reader relies on in a field. `values` is empty if every value of the type is allowed."""

    kind: str
    values: frozenset[str]
    pattern: str | None
    required: bool


def breaking_changes(released: Mapping[str, bytes], now: Mapping[str, bytes]) -> list[str]:
    """A sentence for each change that breaks a reader of the released schemas. Both map names of files to contents.

    Files that are no schema of a record, such as the AsyncAPI document, are left out.
    """
    schemas = {name: json.loads(content) for name, content in released.items()}
    found = []
    for name, schema in schemas.items():
        if "$id" not in schema:
            continue
        if name not in now:
            found.append(f"{name} was removed. Keep it as long as Kafka has its records.")
        else:
            found += [f"{name}: {sentence}" for sentence in breaks(schema, json.loads(now[name]))]
    return found


def breaks(old: Schema, new: Schema) -> list[str]:
    """A sentence for each change from `old` to `new` that breaks a reader: what changed, and what to do."""
    before, after = dict(_fields(old, old)), dict(_fields(new, new))
    found = [f"`{place}` {what}" for place, field in before.items() if (what := _change(field, after.get(place)))]
    found += [
        f"`{place}` is new and required, and older records lack it"
        for place, field in after.items()
        if place not in before and field.required and _parent(place) in (*before, "")
    ]
    return [f"{what}. {ADVICE}" for what in found]


def _change(field: Field, now: Field | None) -> str:
    if now is None:
        return "was removed"
    if now.kind != field.kind:
        return f"was {field.kind} and is now {now.kind}"
    if now.values and (gone := sorted((field.values or {"any other value"}) - now.values)):
        return f"can no longer be {', '.join(gone)}"
    if now.pattern != field.pattern:
        return "has another pattern"
    if now.required != field.required:
        return "is required now, and older records lack it" if now.required else "may be missing now"
    return ""


def _parent(place: str) -> str:
    return place.removesuffix("[]").rpartition(".")[0]


def _fields(schema: Schema, root: Schema, prefix: str = "", required: bool = True) -> Iterator[tuple[str, Field]]:
    """Each field by its path, such as `current.variants[].width`."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if prefix:
        yield prefix, _field(schema, required)
    if "items" in schema:
        yield from _fields(schema["items"], root, f"{prefix}[]")
    for name, inner in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        yield from _fields(inner, root, path, name in schema.get("required", ()))


def _field(schema: Schema, required: bool) -> Field:
    choices = schema.get("anyOf", [schema])
    kind = " or ".join(sorted(" ".join(filter(None, (each.get("format"), each["type"]))) for each in choices))
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    patterns = [each["pattern"] for each in choices if "pattern" in each]
    return Field(kind, frozenset(map(str, values)), patterns[0] if patterns else None, required)
