// A client of the gateway for Node and browsers, typed by its OpenAPI document: `npm run generate` writes schema.d.ts.

import createClient, { type Client } from 'openapi-fetch'
import type { components, paths } from './schema.js'

export type Image = components['schemas']['ImageDocument']
/** An image in a list, which leaves `picture` out. */
export type ListedImage = components['schemas']['ListedImageDocument']
export type Problem = components['schemas']['ProblemDocument']

/** What the gateway refuses. `problem.code` is stable. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(`${problem.title} (${problem.status}): ${problem.detail}`)
  }
}

export class Imagepipe {
  readonly api: Client<paths>

  constructor(baseUrl: string) {
    this.api = createClient<paths>({ baseUrl })
  }

  /** Upload one file; with `wait` seconds the answer comes when the variants are ready. One key makes one image. */
  async upload(file: Blob, name: string, userId: string, wait = 0, key: string = crypto.randomUUID()): Promise<Image> {
    const form = new FormData()
    form.append('image', file, name)
    const { data, error } = await this.api.POST('/images', {
      params: { query: { user_id: userId }, header: { 'Idempotency-Key': key, Prefer: `wait=${wait}` } },
      body: { image: [] },
      bodySerializer: () => form,
    })
    if (error) throw new Refused(error)
    if ('images' in data) throw new TypeError('one file has one document')
    return data
  }

  /** The status document. */
  async get(imageId: string): Promise<Image> {
    const { data, error } = await this.api.GET('/images/{image_id}/metadata', {
      params: { path: { image_id: imageId } },
    })
    if (error) throw new Refused(error)
    return data
  }

  /** Every image of a user, newest first: follows the cursors. */
  async *images(userId: string, limit = 100): AsyncGenerator<ListedImage> {
    for (let cursor: string | undefined; ; ) {
      const { data, error, response } = await this.api.GET('/images', {
        params: { query: { user_id: userId, limit, cursor } },
      })
      if (error) throw new Refused(error)
      yield* data
      const next = /<([^>]+)>; rel="next"/.exec(response.headers.get('Link') ?? '')
      if (!next) return
      cursor = new URL(next[1]!).searchParams.get('cursor') ?? undefined
    }
  }

  /** Delete an image; with `version` only if it was not replaced since. */
  async delete(imageId: string, version?: string): Promise<void> {
    const { error } = await this.api.DELETE('/images/{image_id}', {
      params: { path: { image_id: imageId }, header: version ? { 'If-Match': `"${version}"` } : {} },
    })
    if (error) throw new Refused(error)
  }
}
