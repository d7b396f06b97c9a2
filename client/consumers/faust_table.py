"""A consumer with Faust: keeps the table in a Faust table, which survives a restart.

`python -m client.consumers.faust_table worker --without-web -l warn`.
"""

import json
import os
import sys

import faust

PREFIX = os.environ.get("TOPIC_PREFIX", "")
app = faust.App(
    f"{PREFIX}served-images",
    broker="aiokafka://" + os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
    store="memory://",
    consumer_auto_offset_reset="earliest",
    # Seconds. After a kill the group waits for so long before the new process gets the partitions; the default is 60.
    broker_session_timeout=6,
    broker_heartbeat_interval=2,
    # By default a worker logs what is printed.
    worker_redirect_stdouts=False,
)
# Raw bytes: Faust drops a record that it cannot decode before the agent sees it.
events = app.topic(f"{PREFIX}images.events", key_serializer="raw", value_serializer="raw")
# The changelog must have as many partitions as the topic. An entry is the version and the URL, None once removed.
served = app.Table("served", partitions=int(os.environ.get("TOPIC_PARTITIONS", "8")))


@app.agent(events)
async def keep(stream: faust.StreamT[bytes]) -> None:
    """Apply each event. Events may repeat, come late, or be of a type that is not known yet."""
    async for value in stream:
        event = json.loads(value or b"{}")
        if event.get("schema_version") != 1:
            continue
        image_id, version = event["image_id"], int(event["version"])
        known = served.get(image_id)
        if event["type"] == "image.removed":
            served[image_id] = [version, None]
        elif event["type"] == "image.ready" and (known is None or (known[1] is not None and version > known[0])):
            served[image_id] = [version, event["current"]["variants"][0]["url"]]
        table = {key: url for key, (_, url) in served.items() if url is not None}
        # A worker logs what is printed to sys.stdout.
        print(json.dumps(table), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    app.main()
