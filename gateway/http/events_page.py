"""The page that explains the topics to people: the AsyncAPI document as HTML, without scripts or other files."""

import json
from html import escape
from typing import Any

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Events of imagepipe</title>
<style>
:root{{color-scheme:light dark;--line:color-mix(in srgb,currentColor 18%,transparent)}}
body{{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem}}
h2{{margin-top:3rem}}h3{{margin-top:2.5rem;font-family:ui-monospace,monospace}}
code,pre{{font:.875rem/1.45 ui-monospace,monospace}}
pre{{overflow:auto;border:1px solid var(--line);border-radius:6px;padding:1rem;max-height:30rem}}
.table{{overflow-x:auto}}table{{border-collapse:collapse;width:100%}}
th,td{{text-align:left;vertical-align:top;padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--line)}}
summary{{cursor:pointer;margin:1rem 0 .5rem}}
</style>
<h1>Events of imagepipe</h1>
<p>{intro}</p>
<p>For programs: <a href="../asyncapi.json">AsyncAPI document</a>, <a href="../schemas/">JSON Schemas</a>.</p>
{channels}</html>"""


def page(document: dict[str, Any]) -> str:
    """The page of an AsyncAPI document. Its links are relative to `/events/docs`."""
    channels = "".join(_channel(document, channel) for channel in document["channels"].values())
    return _PAGE.format(intro=_prose(document["info"]["description"]), channels=channels)


def _channel(document: dict[str, Any], channel: dict[str, Any]) -> str:
    binding = channel["bindings"]["kafka"]
    settings = {"partitions": binding["partitions"], "replicas": binding["replicas"], **binding["topicConfiguration"]}
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_value(value))}</td></tr>"
        for name, value in settings.items()
    )
    messages = document["components"]["messages"]
    return (
        f"<h2>Topic <code>{escape(channel['address'])}</code></h2><p>{_prose(channel['description'])}</p>"
        f'<div class="table"><table>{rows}</table></div>'
        + "".join(_message(document, messages[name]) for name in channel["messages"])
    )


def _message(document: dict[str, Any], message: dict[str, Any]) -> str:
    key = message["bindings"]["kafka"]["key"]
    name = message["name"]
    fields = _fields(document, message["payload"])
    example = json.dumps(message["examples"][0]["payload"], indent=2, ensure_ascii=False)
    return (
        f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{_prose(message["summary"])} Key: {_prose(key["description"])}'
        f' <a href="../schemas/{escape(name)}.v1.json">JSON Schema</a></p>'
        f'<div class="table"><table><tr><th>field</th><th>type</th><th>meaning</th></tr>{fields}</table></div>'
        f"<details><summary>Example</summary><pre>{escape(example)}</pre></details>"
    )


def _fields(document: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> str:
    """The rows of a schema's fields, those of its parts indented by their path."""
    rows = []
    for name, field in schema["properties"].items():
        part, is_list = _part(document, field)
        label = f"{prefix}{name}{'[]' if is_list else ''}"
        optional = "" if name in schema["required"] else " (optional)"
        kind = "list" if is_list else "object" if part else _kind(field)
        rows.append(
            f"<tr><td><code>{escape(label)}</code></td><td>{escape(kind + optional)}</td>"
            f"<td>{_prose(field.get('description', ''))}</td></tr>"
        )
        if part:
            rows.append(_fields(document, part, f"{label}."))
    return "".join(rows)


def _part(document: dict[str, Any], field: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    """The schema that a field or the items of a list refer to, and whether it is a list."""
    is_list = field.get("type") == "array"
    reference = (field["items"] if is_list else field).get("$ref")
    return (document["components"]["schemas"][reference.rpartition("/")[2]] if reference else None), is_list


def _kind(field: dict[str, Any]) -> str:
    if "const" in field:
        return json.dumps(field["const"])
    if "anyOf" in field:
        return " or ".join(_kind(choice) for choice in field["anyOf"])
    if "enum" in field:
        return ", ".join(field["enum"])
    return str(field.get("format", field["type"]))


def _value(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _prose(text: str) -> str:
    """Text with `code` marked. Everything else is escaped."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if position % 2 else part for position, part in enumerate(parts))
