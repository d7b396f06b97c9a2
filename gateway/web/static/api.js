// Sends the page's requests to the public API, and turns every failure into a Problem.

/** Seconds after which a request without an answer counts as unreachable. */
const ANSWER_SECONDS = 60;

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

async function get(path, { fresh = false, signal } = {}) {
  const timeout = AbortSignal.timeout(ANSWER_SECONDS * 1000);
  let response, text;
  try {
    response = await fetch(path, {
      headers: fresh ? { 'Cache-Control': 'no-cache' } : {},
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    text = await response.text();
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw problemOf(response.status, text, response.headers.get('Retry-After'));
  return { body: JSON.parse(text), response };
}

export async function getStatus() {
  return (await get('status')).body;
}

export async function getImage(id) {
  return (await get(`images/${encodeURIComponent(id)}/metadata`, { fresh: true })).body;
}

/**
 * A page of the list, newest first: `{images, next}`. `next` is the query of the following page, null on the last one.
 * Of the Link's URL only the query counts, because its host may be that of a CDN.
 */
export async function listImages(query, signal) {
  const { body, response } = await get(`images?${query}`, { signal, fresh: !query.includes('cursor=') });
  const link = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('Link') ?? '');
  return { images: body, next: link ? new URL(link[1], document.baseURI).search.slice(1) : null };
}

/** Delete an image. A request with `keepalive` goes out even if the page is being left. 404 counts as deleted. */
export async function deleteImage(id, { keepalive = false } = {}) {
  let response;
  try {
    response = await fetch(`images/${encodeURIComponent(id)}`, { method: 'DELETE', keepalive });
  } catch {
    throw unreachable();
  }
  if (!response.ok && response.status !== 404) {
    throw problemOf(response.status, await response.text(), response.headers.get('Retry-After'));
  }
}

/**
 * Send a file: POST for a new image of an owner, or PUT to replace the image `target`. `onprogress` gets the bytes that
 * are sent. Returns `{promise, abort}`; the promise has the status document, and raises Problem.
 *
 * By XMLHttpRequest, because fetch reports no progress of what it sends.
 */
export function sendFile({ file, name, key, owner, target, onprogress }) {
  const request = new XMLHttpRequest();
  const form = new FormData();
  form.append('image', file, name);
  const query = owner && !target ? `?${ownerQuery(owner)}` : '';
  const promise = new Promise((resolve, reject) => {
    request.open(target ? 'PUT' : 'POST', target ? `images/${encodeURIComponent(target)}` : `images${query}`);
    request.setRequestHeader('Idempotency-Key', key);
    request.upload.onprogress = (event) => onprogress(event.loaded, event.total);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(problemOf(request.status, request.responseText, request.getResponseHeader('Retry-After')));
    };
    request.onerror = request.ontimeout = () => reject(unreachable());
    request.onabort = () => reject(new Problem(0, 'cancelled', ''));
    request.send(form);
  });
  return { promise, abort: () => request.abort() };
}

export function ownerQuery(owner) {
  return new URLSearchParams({ owner_type: owner.type, owner_id: owner.id }).toString();
}
