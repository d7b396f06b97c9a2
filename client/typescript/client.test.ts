// Runs against the gateway at $GATEWAY: `npm run generate && npm test`.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import test from 'node:test'
import { Imagepipe, Refused } from './client.js'

const client = new Imagepipe(process.env.GATEWAY ?? 'http://127.0.0.1:8000')
const userId = crypto.randomUUID()

test('an image from upload to deletion', async () => {
  const photo = new Blob([await readFile(new URL('../sample.jpg', import.meta.url))])
  const first = await client.upload(photo, 'dune.jpg', userId, 30)
  const second = await client.upload(photo, 'dune.jpg', userId)
  assert.equal(first.status, 'ready')
  assert.deepEqual(first.variants.map(variant => variant.name), ['full', 'large', 'medium', 'small'])

  const ids = []
  for await (const image of client.images(userId, 1)) ids.push(image.image_id)
  assert.deepEqual(ids, [second.image_id, first.image_id])

  await assert.rejects(client.delete(first.image_id, '1'), (error: unknown) => {
    return error instanceof Refused && error.problem.code === 'precondition_failed'
  })
  await client.delete(first.image_id, first.version)
  await assert.rejects(client.get(first.image_id), /Image not found \(404\)/)
})
