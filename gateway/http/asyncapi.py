"""The AsyncAPI 3 document: what is in the topics. `docs/events` has it with default settings."""

from importlib.metadata import version
from typing import Any

from shared.contract.events import SCHEMA_VERSION
from shared.contract.examples import example
from shared.contract.json_schema import COMMANDS, EVENTS, schema_id, schemas
from shared.kafka.topics import topic_specs
from shared.settings import Settings, Topic

BINDING = "0.5.0"
"""Version of AsyncAPI's Kafka binding."""

DESCRIPTION = """\
imagepipe renders images and answers every command with an event on Kafka. Delivery is at least once: expect repetition,
and keep the highest version for each image. `docs/events.md` says how to consume.
"""
CHANNELS = {
    Topic.EVENTS: (
        "The answers to commands, for every service. All events of an image are in one partition. The topic is "
        "compacted and never expires: a reader that starts at its beginning gets the state of every image."
    ),
    Topic.COMMANDS: (
        "Internal: the gateway writes it, the processor and the indexer read it. Read it for audits, and react to "
        "events."
    ),
}
RECORDS = {Topic.EVENTS: EVENTS, Topic.COMMANDS: COMMANDS}
KEYS = {
    Topic.EVENTS: ("^[0-9a-f-]{36}:[0-9]{1,19}$", "`{image_id}:{version}`, with the version of the answered command."),
    Topic.COMMANDS: ("^[a-z][a-z0-9_]{0,31}:.{1,128}$", "`{owner type}:{owner id}`."),
}
NUMBERS = frozenset({"retention.ms", "max.message.bytes"})
"""Settings of topics that the Kafka binding has as numbers."""


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


CLOUD_EVENT = {
    "headers": {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_dataschema", "content-type"],
        "properties": {
            "ce_specversion": _text("Version of CloudEvents.", const="1.0"),
            "ce_id": _text("Id of the event. A repeated answer has the same id."),
            "ce_type": _text("Type of the record, as in the value."),
            "ce_source": _text("The service that wrote the record, such as `/imagepipe/processor`."),
            "ce_subject": _text("Id of the image; of `owner.cleared`, the owner."),
            "ce_dataschema": _text("`$id` of the value's JSON Schema."),
            "content-type": _text("Type of the value.", const="application/json"),
            "traceparent": _text("W3C Trace Context of the request. Some records have none."),
        },
    },
    "bindings": {"kafka": {"bindingVersion": BINDING}},
}
"""CloudEvents 1.0 in Kafka's binary mode: the attributes are headers."""


def asyncapi(settings: Settings) -> dict[str, Any]:
    """The document of a deployment with these settings."""
    models = {name: model for records in RECORDS.values() for name, model in records.items()}
    records, parts = schemas(list(models.values()), "#/components/schemas/{model}")
    payloads = dict(zip(models, records, strict=True))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "imagepipe",
            "version": version("imagepipe"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel_name(topic): _channel(settings, topic) for topic in RECORDS},
        "operations": {
            "publishEvents": _operation(Topic.EVENTS, "Publish the answer to a command."),
            "appendCommands": _operation(Topic.COMMANDS, "Append an acknowledged write to the log.")
            | {"tags": [{"name": "internal"}]},
        },
        "components": {
            "messages": {
                name: _message(name, topic, payloads[name]) for topic, found in RECORDS.items() for name in found
            },
            "schemas": parts,
            "messageTraits": {"cloudEvent": CLOUD_EVENT},
        },
    }


def _channel_name(topic: Topic) -> str:
    return topic.value.rpartition(".")[2]


def _channel(settings: Settings, topic: Topic) -> dict[str, Any]:
    spec = next(each for each in topic_specs(settings) if each.name == settings.topic(topic))
    config: dict[str, Any] = {
        key: int(value) if key in NUMBERS else value for key, value in spec.config.items()
    } | {"cleanup.policy": spec.config["cleanup.policy"].split(",")}  # fmt: skip
    return {
        "address": spec.name,
        "description": CHANNELS[topic],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in RECORDS[topic]},
        "bindings": {
            "kafka": {
                "partitions": spec.partitions,
                "replicas": spec.replication_factor,
                "topicConfiguration": config,
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(topic: Topic, summary: str) -> dict[str, Any]:
    return {"action": "send", "channel": {"$ref": f"#/channels/{_channel_name(topic)}"}, "summary": summary}


def _message(name: str, topic: Topic, payload: dict[str, Any]) -> dict[str, Any]:
    pattern, description = KEYS[topic]
    found = example(name, SCHEMA_VERSION)
    key = _text(description, pattern=pattern, examples=[found["key"]])
    return {
        "name": name,
        "title": name,
        "summary": payload["description"].partition("\n")[0],
        "description": f"JSON Schema: `{schema_id(name)}`.",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": payload,
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}},
        "examples": [{"name": name, "headers": found["headers"], "payload": found["value"]}],
    }
