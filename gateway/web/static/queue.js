// The upload queue: checks each file, sends a few at the same time, waits out busy times, and follows them to the end.
import { getImage, Problem, sendFile } from './api.js';
import { fileKind, pictureExtension } from './filetype.js';
import { forget, forgetFile, keep, keepFile, takeOver } from './queue_store.js';
import { shrink, shrunkName } from './shrink.js';

/** Files that are sent at the same time. A browser opens six connections to a server, and the lists need some too. */
const AT_ONCE = 3;
/** Milliseconds between two requests for the state of what is processed, for when no event has reported it. */
const LOOK_PAUSE = 4000;
const LOOK_AT_ONCE = 5;
/** Seconds to wait where the server names none: doubled with each attempt. */
const WAIT = { first: 1, longest: 15 };
const PENDING = ['checking', 'waiting', 'sending', 'shrinking', 'processing'];

/** A random id. crypto.randomUUID exists only on pages with HTTPS. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * A file on its way. `state` is one of
 * - `checking`, `waiting`, `sending`, `shrinking`, `processing`: on its way; `problem` says why it waits,
 * - `large`: above the limit, can be shrunk,
 * - `refused`, `failed`, `lost`: ended, with the reason in `problem`; `lost` needs its file again,
 * - `ready`, `removed`: ended.
 * `target` is the id of the image that it replaces.
 */
class Entry {
  constructor(fields) {
    Object.assign(this, {
      id: randomId(), key: randomId(), state: 'checking', kind: null, sent: 0, before: null, target: null,
      imageId: null, document: null, problem: null, attempts: 0, preview: null, transfer: null, ...fields,
    });
  }

  get isPending() {
    return PENDING.includes(this.state);
  }

  record(queue) {
    const { id, key, name, size, owner, target, kind, before, imageId, state } = this;
    const problem = this.problem && { code: this.problem.code, detail: this.problem.detail };
    return { id, key, name, size, owner, target, kind, before, imageId, state, problem, queue };
  }
}

/**
 * Events: `change` with the entry in `detail`, null if several changed; `accepted`, `read` (a status document) and `shrunk`;
 * `held` when files wait because something is unavailable or busy.
 */
export class Queue extends EventTarget {
  #id = randomId();
  #limits;
  #heldUntil = 0;
  #timer = null;
  entries = [];

  constructor(limits) {
    super();
    this.#limits = limits;
    setInterval(() => this.#look(), LOOK_PAUSE);
  }

  async restore() {
    await takeOver(this.#id, (records) => {
      for (const record of records) this.#adopt(record);
      this.#changed(null);
      this.#pump();
    });
  }

  async add(files, owner, target = null) {
    const entries = [];
    for (const file of files) {
      const lost = this.entries.find((each) => each.state === 'lost' && each.name === file.name && each.size === file.size);
      if (lost) Object.assign(lost, { file, state: 'checking', problem: null });
      const entry = lost ?? new Entry({ file, name: file.name, size: file.size, owner, target });
      if (!lost) this.entries.push(entry);
      entries.push(entry);
    }
    this.#changed(null);
    await Promise.all(entries.flatMap((entry) => [this.#keep(entry), keepFile(entry.id, entry.file)]));
    for (const entry of entries) await this.#check(entry);
  }

  cancel(entry) {
    entry.transfer?.abort();
    this.#drop(entry);
    this.#changed(null);
    this.#pump();
  }

  cancelAll() {
    for (const entry of this.entries.filter((each) => each.isPending && each.state !== 'processing')) this.cancel(entry);
  }

  /** Try a failed entry again: what the gateway has refused finally counts as a new request, so it gets a new key. */
  retry(entry) {
    // An upload that was accepted and failed later has an image already, whose file is replaced.
    const target = entry.target ?? entry.imageId;
    Object.assign(entry, { state: 'waiting', problem: null, sent: 0, key: randomId(), target, imageId: null, document: null });
    this.#heldUntil = 0;
    this.#keep(entry);
    this.#changed(entry);
    this.#pump();
  }

  retryFailed() {
    for (const entry of this.entries.filter((each) => each.state === 'failed' && each.file)) this.retry(entry);
  }

  async shrink(entry) {
    entry.state = 'shrinking';
    this.#changed(entry);
    try {
      const { blob } = await shrink(entry.file, entry.kind, this.#limits());
      if (!this.entries.includes(entry)) return;
      const name = shrunkName(entry.name, blob.type);
      Object.assign(entry, {
        before: entry.size, file: new File([blob], name, { type: blob.type }), name, size: blob.size, state: 'waiting',
        problem: null, key: randomId(), kind: blob.type,
      });
      this.dispatchEvent(new CustomEvent('shrunk', { detail: entry }));
    } catch {
      this.#end(entry, 'refused', new Problem(0, 'shrink_failed', ''));
      return;
    }
    keepFile(entry.id, entry.file);
    this.#keep(entry);
    this.#changed(entry);
    this.#pump();
  }

  async shrinkAll() {
    for (const entry of this.entries.filter((each) => each.state === 'large')) await this.shrink(entry);
  }

  /** Remove what has ended, except what failed and can be tried again. */
  clearFinished() {
    for (const entry of this.entries.filter((each) => !each.isPending && each.state !== 'large')) this.#drop(entry);
    this.#changed(null);
  }

  settle(document) {
    for (const entry of this.entries) {
      if (entry.imageId === document.image_id && entry.state === 'processing') this.#settleEntry(entry, document);
    }
  }

  removed(imageId) {
    for (const entry of this.entries) {
      if (entry.imageId === imageId && entry.state === 'processing') this.#end(entry, 'removed', null);
    }
  }

  #adopt(record) {
    if (this.entries.some((each) => each.id === record.id)) return;
    const problem = record.problem && new Problem(0, record.problem.code, record.problem.detail);
    const entry = new Entry({ ...record, problem });
    this.entries.push(entry);
    if (!entry.file && entry.state !== 'processing' && !entry.imageId) {
      Object.assign(entry, { state: 'lost', problem: new Problem(0, 'lost', '') });
    } else if (entry.state === 'shrinking') entry.state = 'large';
    else if (entry.state === 'sending' || entry.state === 'checking') entry.state = 'waiting';
    this.#keep(entry);
  }

  async #check(entry) {
    let kind;
    try {
      kind = await fileKind(entry.file);
    } catch {
      return this.#end(entry, 'refused', new Problem(0, 'unreadable', ''));
    }
    entry.kind = kind;
    const { content_types: accepted, file_bytes: limit } = this.#limits();
    if (kind === null) return this.#end(entry, 'refused', new Problem(0, 'empty', ''));
    if (!accepted.includes(kind)) {
      return this.#end(entry, 'refused', new Problem(0, 'wrong_type', pictureExtension(entry.name) ?? ''));
    }
    if (entry.size > limit) Object.assign(entry, { state: 'large', problem: new Problem(0, 'too_large', '') });
    else entry.state = 'waiting';
    this.#keep(entry);
    this.#changed(entry);
    this.#pump();
  }

  #pump() {
    const wait = this.#heldUntil - Date.now();
    if (wait > 0) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#pump(), wait);
      return;
    }
    let free = AT_ONCE - this.entries.filter((each) => each.state === 'sending').length;
    for (const entry of this.entries) {
      if (free <= 0) return;
      if (entry.state !== 'waiting') continue;
      free--;
      this.#send(entry);
    }
  }

  async #send(entry) {
    Object.assign(entry, { state: 'sending', sent: 0 });
    this.#changed(entry);
    entry.transfer = sendFile({ ...entry, onprogress: (sent) => { entry.sent = Math.min(sent, entry.size); this.#changed(entry); } });
    try {
      const document = await entry.transfer.promise;
      Object.assign(entry, { state: 'processing', imageId: document.image_id, problem: null, attempts: 0 });
      this.#keep(entry);
      // The gateway has the file now.
      forgetFile(entry.id);
      this.dispatchEvent(new CustomEvent('accepted', { detail: { entry, document } }));
      this.#settleEntry(entry, document);
    } catch (problem) {
      this.#failed(entry, problem);
    }
    entry.transfer = null;
    this.#changed(entry);
    this.#pump();
  }

  #failed(entry, problem) {
    if (problem.code === 'cancelled') return;
    if (!problem.passes) {
      this.#end(entry, 'failed', problem);
      return;
    }
    // The same key makes the repetition safe: the gateway stores the file once, also if it has accepted it before.
    const own = Math.min(WAIT.first * 2 ** entry.attempts, WAIT.longest);
    Object.assign(entry, { state: 'waiting', problem, attempts: entry.attempts + 1 });
    this.dispatchEvent(new Event('held'));
    this.#heldUntil = Math.max(this.#heldUntil, Date.now() + (problem.retryAfter ?? own) * 1000);
  }

  #settleEntry(entry, document) {
    entry.document = document;
    const { pending, status, error } = document;
    // A failed replacement is `pending` beside the picture that stays.
    const state = pending ? pending.status : status;
    if (state === 'processing') this.#changed(entry);
    else if (state === 'failed') {
      const reason = pending?.error ?? error;
      this.#end(entry, 'failed', new Problem(422, reason?.type ?? 'other', reason?.detail ?? ''));
    } else this.#end(entry, 'ready', null);
  }

  #end(entry, state, problem) {
    Object.assign(entry, { state, problem });
    if (state === 'failed' && entry.file) {
      keepFile(entry.id, entry.file);
      this.#keep(entry);
    } else forget(entry.id);
    this.#changed(entry);
  }

  #drop(entry) {
    this.entries = this.entries.filter((each) => each !== entry);
    if (entry.preview) URL.revokeObjectURL(entry.preview);
    forget(entry.id);
  }

  async #look() {
    const waiting = this.entries.filter((each) => each.state === 'processing').slice(0, LOOK_AT_ONCE);
    for (const entry of waiting) {
      try {
        const document = await getImage(entry.imageId);
        this.dispatchEvent(new CustomEvent('read', { detail: document }));
        this.settle(document);
      } catch (problem) {
        if (problem.status === 404) this.removed(entry.imageId);
        else return;
      }
    }
  }

  #keep(entry) {
    return keep(entry.record(this.#id));
  }

  #changed(entry) {
    this.dispatchEvent(new CustomEvent('change', { detail: entry }));
  }
}
