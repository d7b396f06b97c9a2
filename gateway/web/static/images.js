// Holds the images of the present list, newest first, and reads further pages of it.
import { listImages, ownerQuery } from './api.js';
import { Emitter } from './emitter.js';
import { dayKey } from './format.js';
import { ownerKey } from './route.js';

/** Images of the first page, which is waited for, and of each further one. */
const FIRST_PAGE = 100;
const PAGE = 300;

/** An image of the list: its status document, and the picture that this browser sent, until there are variants. */
class Item {
  #day = null;

  constructor(document) {
    this.id = document.image_id;
    this.preview = null;
    this.document = document;
  }

  /** The local day of the upload, computed once: each arrangement of the gallery asks for all of them. */
  get day() {
    this.#day ??= dayKey(this.date);
    return this.#day;
  }

  get date() {
    return new Date(this.document.uploaded_at);
  }

  /** `ready`, `processing`, `failed` or `replacing`; an image whose replacement failed is `ready`. */
  get state() {
    const { pending, status, variants } = this.document;
    if (pending?.status === 'processing') return 'replacing';
    return variants.length > 0 ? 'ready' : status;
  }
}

/** Events: `change` after every change of the list. */
export class Images extends Emitter {
  #items = new Map();
  #hidden = new Set();
  #sorted = null;
  #next = null;
  #loading = null;
  #generation = 0;
  owner = null;
  /** `null`, or the Problem of the last try to read a page. */
  problem = null;
  /** Whether the first page has been read. */
  isLoaded = false;

  /** The items that are shown, newest first: ids are UUIDv7, so their order is that of time. */
  get all() {
    this.#sorted ??= [...this.#items.values()]
      .filter((item) => !this.#hidden.has(item.id))
      .sort((one, other) => (one.id < other.id ? 1 : -1));
    return this.#sorted;
  }

  get hasMore() {
    return this.#next !== null;
  }

  get isLoading() {
    return this.#loading !== null;
  }

  get(id) {
    return this.#hidden.has(id) ? undefined : this.#items.get(id);
  }

  async open(owner) {
    this.owner = owner;
    this.#items.clear();
    this.isLoaded = false;
    await this.reload();
  }

  /** Read the list again from its beginning. What is below its first page comes again when it is scrolled to. */
  async reload() {
    this.#generation++;
    this.#loading?.abort();
    this.#loading = null;
    this.#next = `${this.owner ? `${ownerQuery(this.owner)}&` : ''}limit=${FIRST_PAGE}`;
    await this.more(true);
  }

  async more(isFirst = false) {
    if (this.#next === null || this.#loading) return;
    const generation = this.#generation;
    const loading = new AbortController();
    this.#loading = loading;
    this.#changed();
    try {
      const { images, next } = await listImages(this.#next, loading.signal);
      if (generation !== this.#generation) return;
      if (isFirst) this.#replaceBy(images);
      for (const document of images) this.#put(document);
      Object.assign(this, { problem: null, isLoaded: true });
      this.#next = next?.replace(`limit=${FIRST_PAGE}`, `limit=${PAGE}`) ?? null;
    } catch (problem) {
      if (generation !== this.#generation) return;
      this.problem = problem;
    }
    this.#loading = null;
    this.#changed();
  }

  /** Go on after a problem. */
  retry() {
    this.problem = null;
    return this.isLoaded ? this.more() : this.reload();
  }

  includes(document) {
    return this.owner === null || ownerKey(this.owner) === `${document.owner_type}:${document.owner_id}`;
  }

  put(document, preview = null) {
    if (!this.includes(document)) return;
    const item = this.#put(document);
    item.preview = preview ?? item.preview;
    this.#changed();
  }

  remove(id) {
    if (this.#items.delete(id)) this.#changed();
  }

  /** Leave images out while their deletion can be undone. */
  hide(ids) {
    ids.forEach((id) => this.#hidden.add(id));
    this.#changed();
  }

  unhide(ids) {
    ids.forEach((id) => this.#hidden.delete(id));
    this.#changed();
  }

  #put(document) {
    const known = this.#items.get(document.image_id);
    if (known) {
      known.document = document;
      return known;
    }
    const item = new Item(document);
    this.#items.set(item.id, item);
    return item;
  }

  /** Keep only what the first page has, and the images that came after it was read. */
  #replaceBy(images) {
    const newest = images[0]?.image_id ?? '';
    const listed = new Set(images.map((each) => each.image_id));
    for (const id of this.#items.keys()) if (!listed.has(id) && id <= newest) this.#items.delete(id);
    if (images.length === 0) this.#items.clear();
  }

  #changed() {
    this.#sorted = null;
    this.emit('change');
  }
}
