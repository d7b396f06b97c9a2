// A consumer for Node: keeps the URL of each image that is served in memory. `npx tsx consumers/served_table.ts`.

import { randomUUID } from 'node:crypto'
import { Consumer, MessagesStreamModes, stringDeserializers } from '@platformatic/kafka'

const served = new Map<string, string>()
const versions = new Map<string, bigint>()
const removed = new Set<string>()

/** Apply one event. Events may repeat, come late, or be of a type that is not known yet. */
function handle(event: any): void {
  if (event.schema_version !== 1) return
  const id: string = event.image_id
  const version = BigInt(event.version) // JavaScript's numbers cannot hold it.
  if (event.type === 'image.removed') {
    removed.add(id)
    served.delete(id)
  } else if (event.type === 'image.ready' && !removed.has(id) && version > (versions.get(id) ?? -1n)) {
    versions.set(id, version)
    served.set(id, event.current.variants[0].url)
  }
}

// The table is in memory, so each run reads the topic from its beginning, in a group of its own.
const consumer = new Consumer({
  groupId: `served-table-${randomUUID()}`,
  clientId: 'served-table',
  bootstrapBrokers: (process.env.KAFKA_BOOTSTRAP_SERVERS ?? '127.0.0.1:9092').split(','),
  deserializers: stringDeserializers,
})
const topics = [`${process.env.TOPIC_PREFIX ?? ''}images.events`]
for await (const { value } of await consumer.consume({ topics, mode: MessagesStreamModes.EARLIEST, autocommit: false })) {
  if (!value) continue // a record without a value
  handle(JSON.parse(value))
  console.log(JSON.stringify(Object.fromEntries(served)))
}
