// Follows live events of an owner. The tabs of a browser share one stream: one of them reads, and passes events on.
import { ownerQuery } from './api.js';
import { Emitter } from './emitter.js';
import { ownerKey } from './route.js';

const TYPES = ['image.ready', 'image.failed', 'image.removed', 'resync'];
/** Milliseconds before a stream that the gateway refused is tried again. */
const PAUSE = 4000;

/**
 * Events: `news` with the type and the parsed event, `state` when the connection was made or lost.
 *
 * A Web Lock decides which tab reads. It passes to another tab when the reading one is closed, which then goes on after
 * the last event that it got. Without locks, on a page without HTTPS, each tab reads by itself.
 */
export class LiveEvents extends Emitter {
  #following = null;
  isConnected = false;

  /** Follow the events of an owner, of all for null, instead of those followed before. */
  follow(owner) {
    this.#following?.stop();
    this.#following = new Following(owner, (type, event) => this.emit('news', { type, event }), (state) => this.#state(state));
  }

  #state(isConnected) {
    if (this.isConnected === isConnected) return;
    this.isConnected = isConnected;
    this.emit('state');
  }
}

class Following {
  #stopped = new AbortController();
  #lastId = null;
  #source = null;
  #timer = null;
  #release = () => {};

  constructor(owner, onnews, onstate) {
    Object.assign(this, { owner, onnews, onstate });
    const place = `imagepipe.events ${ownerKey(owner)}`;
    this.channel = new BroadcastChannel(place);
    this.channel.onmessage = ({ data }) => this.#heard(data);
    onstate(false);
    if (navigator.locks) this.#wait(place);
    else this.#read();
  }

  stop() {
    this.#stopped.abort();
    this.#release();
    clearTimeout(this.#timer);
    this.#source?.close();
    this.channel.close();
  }

  async #wait(place) {
    // A tab that reads answers, so that this one knows its state without waiting for an event.
    this.channel.postMessage({ ask: true });
    let hasWaited = false;
    const timer = setTimeout(() => { hasWaited = true; }, 1000);
    try {
      await navigator.locks.request(place, { signal: this.#stopped.signal }, () => {
        clearTimeout(timer);
        // Without a position, events between the end of the other tab's stream and this one would be missed.
        if (hasWaited && !this.#lastId) this.onnews('resync', {});
        this.#read();
        return new Promise((resolve) => { this.#release = resolve; });
      });
    } catch {
      // Stopped while it waited for the lock.
    }
  }

  #read() {
    if (this.#stopped.signal.aborted) return;
    const query = new URLSearchParams(this.owner ? ownerQuery(this.owner) : '');
    if (this.#lastId) query.set('last_event_id', this.#lastId);
    const source = new EventSource(`events?${query}`);
    this.#source = source;
    source.onopen = () => this.#share({ state: true });
    source.onerror = () => {
      this.#share({ state: false });
      // The browser connects again by itself, unless the gateway answered with an error.
      if (source.readyState === EventSource.CLOSED) this.#timer = setTimeout(() => this.#read(), PAUSE);
    };
    for (const type of TYPES) {
      source.addEventListener(type, ({ data, lastEventId }) => this.#share({ type, data, id: lastEventId }));
    }
  }

  #share(message) {
    if (this.#stopped.signal.aborted) return;
    this.channel.postMessage(message);
    this.#handle(message);
  }

  #heard(message) {
    if (message.ask) {
      if (this.#source) this.channel.postMessage({ state: this.#source.readyState === EventSource.OPEN, id: this.#lastId });
      return;
    }
    if (!this.#source) this.#handle(message);
  }

  #handle({ type, data, id, state }) {
    if (id) this.#lastId = id;
    if (state !== undefined) this.onstate(state);
    if (type) this.onnews(type, JSON.parse(data));
  }
}
