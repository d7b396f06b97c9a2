// The upload queue: checks each file, sends a few at the same time, waits out busy times, and follows them to the end.
import { getImage, Problem, sendFile } from './api.js';
import { Emitter } from './emitter.js';
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

const own = (code, detail = '') => new Problem(0, code, detail);

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
 * Events: `change` with an entry, null if the list changed; `accepted`, `read` (a status document) and `shrunk`; `held` when
 * files wait because something is unavailable or busy.
 */
export class Queue extends Emitter {
  #id = randomId();
  #system;
  #heldUntil = 0;
  #timer = null;
  entries = [];

  /** `system` has the limits of an upload. */
  constructor(system) {
    super();
    this.#system = system;
    setInterval(() => this.#look(), LOOK_PAUSE);
  }

  async restore() {
    await takeOver(this.#id, (records) => {
      for (const record of records) this.#adopt(record);
      this.emit('change', null);
      this.#pump();
    });
  }

  in(...states) {
    return this.entries.filter((each) => states.includes(each.state));
  }

  /** What failed and can be tried again. */
  get failed() {
    return this.in('failed').filter((each) => each.file);
  }

  get cancellable() {
    return this.in('checking', 'waiting', 'sending', 'shrinking');
  }

  get ended() {
    return this.entries.filter((each) => !each.isPending && each.state !== 'large');
  }

  async add(files, owner, target = null) {
    const entries = files.map((file) => this.#entryOf(file, owner, target));
    this.emit('change', null);
    await this.#keep(...entries);
    for (const entry of entries) {
      await keepFile(entry);
      if (this.entries.includes(entry)) await this.#check(entry);
    }
  }

  /** Remove entries, and end their uploads. */
  cancel(...entries) {
    for (const entry of entries) {
      entry.transfer?.abort();
      if (entry.preview) URL.revokeObjectURL(entry.preview);
      forget(entry.id);
    }
    this.entries = this.entries.filter((each) => !entries.includes(each));
    this.emit('change', null);
    this.#pump();
  }

  /** Try a failed entry again: what the gateway has refused finally counts as a new request, so it gets a new key. */
  retry(entry) {
    // An upload that was accepted and failed later has an image already, whose file is replaced.
    const target = entry.target ?? entry.imageId;
    this.#heldUntil = 0;
    this.#set(entry, { state: 'waiting', problem: null, sent: 0, key: randomId(), target, imageId: null, document: null });
  }

  retryFailed() {
    for (const entry of this.failed) this.retry(entry);
  }

  async shrink(entry) {
    entry.state = 'shrinking';
    this.emit('change', entry);
    try {
      const blob = await shrink(entry.file, entry.kind, this.#system.limits);
      if (!this.entries.includes(entry)) return;
      const name = shrunkName(entry.name, blob.type);
      const file = new File([blob], name, { type: blob.type });
      this.#set(entry, { before: entry.size, file, name, size: blob.size, state: 'waiting', problem: null, key: randomId(), kind: blob.type });
      keepFile(entry);
      this.emit('shrunk', entry);
    } catch {
      this.#end(entry, 'refused', own('shrink_failed'));
    }
  }

  async shrinkAll() {
    for (const entry of this.in('large')) await this.shrink(entry);
  }

  settle(document) {
    for (const entry of this.in('processing')) if (entry.imageId === document.image_id) this.#settleEntry(entry, document);
  }

  removed(imageId) {
    for (const entry of this.in('processing')) if (entry.imageId === imageId) this.#end(entry, 'removed', null);
  }

  /** A new entry, or the one that needs this file again. */
  #entryOf(file, owner, target) {
    const { name, size } = file;
    const lost = this.in('lost').find((each) => each.name === name && each.size === size);
    if (lost) return Object.assign(lost, { file, state: 'checking', problem: null });
    const entry = new Entry({ file, name, size, owner, target });
    this.entries.push(entry);
    return entry;
  }

  #adopt(record) {
    if (this.entries.some((each) => each.id === record.id)) return;
    const { problem } = record;
    const preview = record.file ? URL.createObjectURL(record.file) : null;
    const entry = new Entry({ ...record, preview, problem: problem && own(problem.code, problem.detail) });
    this.entries.push(entry);
    if (!entry.file && entry.state !== 'processing' && !entry.imageId) Object.assign(entry, { state: 'lost', problem: own('lost') });
    else if (entry.state === 'shrinking') entry.state = 'large';
    else if (entry.state === 'sending' || entry.state === 'checking') entry.state = 'waiting';
    this.#keep(entry);
  }

  async #check(entry) {
    let kind;
    try {
      kind = await fileKind(entry.file);
    } catch {
      return this.#end(entry, 'refused', own('unreadable'));
    }
    entry.kind = kind;
    const { content_types: accepted, file_bytes: limit } = this.#system.limits;
    if (kind === null) this.#end(entry, 'refused', own('empty'));
    else if (!accepted.includes(kind)) this.#end(entry, 'refused', own('wrong_type', pictureExtension(entry.name) ?? ''));
    else {
      const preview = URL.createObjectURL(entry.file);
      if (entry.size > limit) this.#set(entry, { preview, state: 'large', problem: own('too_large') });
      else this.#set(entry, { preview, state: 'waiting' });
    }
  }

  #pump() {
    const wait = this.#heldUntil - Date.now();
    if (wait > 0) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#pump(), wait);
      return;
    }
    const free = AT_ONCE - this.in('sending').length;
    for (const entry of this.in('waiting').slice(0, Math.max(0, free))) this.#send(entry);
  }

  async #send(entry) {
    Object.assign(entry, { state: 'sending', sent: 0 });
    this.emit('change', entry);
    entry.transfer = sendFile({ ...entry, onprogress: (sent) => { entry.sent = Math.min(sent, entry.size); this.emit('change', entry); } });
    try {
      const document = await entry.transfer.promise;
      Object.assign(entry, { state: 'processing', imageId: document.image_id, problem: null, attempts: 0 });
      this.#keep(entry);
      // The gateway has the file now.
      forgetFile(entry.id);
      this.emit('accepted', { entry, document });
      this.settle(document);
    } catch (problem) {
      this.#failed(entry, problem);
    }
    entry.transfer = null;
    this.emit('change', entry);
    this.#pump();
  }

  #failed(entry, problem) {
    if (problem.code === 'cancelled') return;
    if (!problem.passes) {
      this.#end(entry, 'failed', problem);
      return;
    }
    // The same key makes the repetition safe: the gateway stores the file once, also if it has accepted it before.
    const pause = problem.retryAfter ?? Math.min(WAIT.first * 2 ** entry.attempts, WAIT.longest);
    Object.assign(entry, { state: 'waiting', problem, attempts: entry.attempts + 1 });
    this.emit('held');
    this.#heldUntil = Math.max(this.#heldUntil, Date.now() + pause * 1000);
  }

  #settleEntry(entry, document) {
    entry.document = document;
    // A failed replacement is `pending` beside the picture that stays.
    const { status, error } = document.pending ?? document;
    if (status === 'processing') this.emit('change', entry);
    else if (status === 'failed') this.#end(entry, 'failed', new Problem(422, error?.type ?? 'other', error?.detail ?? ''));
    else this.#end(entry, 'ready', null);
  }

  #end(entry, state, problem) {
    Object.assign(entry, { state, problem });
    if (state === 'failed' && entry.file) {
      keepFile(entry);
      this.#keep(entry);
    } else forget(entry.id);
    this.emit('change', entry);
  }

  async #look() {
    for (const entry of this.in('processing').slice(0, LOOK_AT_ONCE)) {
      try {
        const document = await getImage(entry.imageId);
        this.emit('read', document);
        this.settle(document);
      } catch (problem) {
        if (problem.status !== 404) return;
        this.removed(entry.imageId);
      }
    }
  }

  #set(entry, fields) {
    Object.assign(entry, fields);
    this.#keep(entry);
    this.emit('change', entry);
    this.#pump();
  }

  #keep(...entries) {
    return keep(...entries.map((entry) => entry.record(this.#id)));
  }
}
