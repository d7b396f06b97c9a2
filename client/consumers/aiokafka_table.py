"""A consumer with aiokafka: keeps the URL of each image that is served, in memory.

`python -m client.consumers.aiokafka_table`.
"""

import asyncio
import json
import os
from typing import Any

from aiokafka import AIOKafkaConsumer

served: dict[str, str] = {}
versions: dict[str, int] = {}
removed: set[str] = set()


def handle(event: dict[str, Any]) -> None:
    """Apply one event. Events may repeat, come late, or be of a type that is not known yet."""
    if event["schema_version"] != 1:
        return
    image_id, version = event["image_id"], int(event["version"])
    if event["type"] == "image.removed":
        removed.add(image_id)
        served.pop(image_id, None)
    elif event["type"] == "image.ready" and image_id not in removed and version > versions.get(image_id, -1):
        versions[image_id] = version
        served[image_id] = event["current"]["variants"][0]["url"]


async def main() -> None:
    """Read the topic from its beginning. The table is in memory, so no position is committed."""
    topic = os.environ.get("TOPIC_PREFIX", "") + "images.events"
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    async with AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        async for record in consumer:
            if record.value is not None:
                handle(json.loads(record.value))
                print(json.dumps(served), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
