// Sends the page's requests to the public API, and turns every failure into a Problem.

/** Seconds after which a request without an answer counts as unreachable. */
const ANSWER_SECONDS = 60;
const FRESH = { 'Cache-Control': 'no-cache' };

/**
 * A failure. `code` is that of the problem document, or `unreachable` without an answer. `retryAfter` is in seconds,
 * null if the server did not send it.
 */
export class Problem extends Error {
  constructor(status, code, detail, retryAfter = null) {
    super(detail || code);
    Object.assign(this, { status, code, detail: detail ?? '', retryAfter });
  }

  get passes() {
    return this.code === 'unreachable' || [408, 409, 429, 502, 503, 504].includes(this.status);
  }
}

const unreachable = () => new Problem(0, 'unreachable', '');

function problemOf(status, text, retryAfter) {
  let document = {};
  try {
    document = JSON.parse(text) ?? {};
  } catch {
    // A proxy answers with a page of its own.
  }
  const code = document.code ?? (status >= 502 ? 'unreachable' : 'other');
  return new Problem(status, code, document.detail ?? `HTTP ${status}`, Number(retryAfter) || null);
}

async function request(path, { signal, ...options } = {}) {
  const timeout = AbortSignal.timeout(ANSWER_SECONDS * 1000);
  let response, text;
  try {
    response = await fetch(path, { ...options, signal: signal ? AbortSignal.any([signal, timeout]) : timeout });
    text = await response.text();
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw problemOf(response.status, text, response.headers.get('Retry-After'));
  return { text, response };
}

const pathOf = (id) => `images/${encodeURIComponent(id)}`;

export async function getStatus() {
  return JSON.parse((await request('status')).text);
}

export async function getImage(id) {
  return JSON.parse((await request(`${pathOf(id)}/metadata`, { headers: FRESH })).text);
}

/**
 * A page of the list, newest first: `{images, next}`. `next` is the query of the following page, null on the last one.
 * Of the Link's URL only the query counts, because its host may be that of a CDN.
 */
export async function listImages(query, signal) {
  const { text, response } = await request(`images?${query}`, { signal, headers: query.includes('cursor=') ? {} : FRESH });
  const link = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('Link') ?? '');
  return { images: JSON.parse(text), next: link ? new URL(link[1], document.baseURI).search.slice(1) : null };
}

/** Delete an image. A request with `keepalive` goes out even if the page is being left. 404 counts as deleted. */
export async function deleteImage(id, keepalive = false) {
  try {
    await request(pathOf(id), { method: 'DELETE', keepalive });
  } catch (problem) {
    if (problem.status !== 404) throw problem;
  }
}

/**
 * Send a file: POST for a new image of an owner, or PUT to replace the image `target`. `onprogress` gets the bytes that
 * are sent. Returns `{promise, abort}`; the promise has the status document, and raises Problem.
 *
 * By XMLHttpRequest, because fetch reports no progress of what it sends.
 */
export function sendFile({ file, name, key, owner, target, onprogress }) {
  const sent = new XMLHttpRequest();
  const form = new FormData();
  form.append('image', file, name);
  const promise = new Promise((resolve, reject) => {
    if (target) sent.open('PUT', pathOf(target));
    else sent.open('POST', owner ? `images?${ownerQuery(owner)}` : 'images');
    sent.setRequestHeader('Idempotency-Key', key);
    sent.upload.onprogress = (event) => onprogress(event.loaded);
    sent.onload = () => {
      if (sent.status < 300) resolve(JSON.parse(sent.responseText));
      else reject(problemOf(sent.status, sent.responseText, sent.getResponseHeader('Retry-After')));
    };
    sent.onerror = () => reject(unreachable());
    sent.onabort = () => reject(new Problem(0, 'cancelled', ''));
    sent.send(form);
  });
  return { promise, abort: () => sent.abort() };
}

export function ownerQuery(owner) {
  return new URLSearchParams({ owner_type: owner.type, owner_id: owner.id }).toString();
}
