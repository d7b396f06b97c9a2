// Shows the images of the list in rows by day. Only what is near the screen has elements, so that any number scrolls.
import { announce } from './announce.js';
import { button, h } from './element.js';
import { Emitter } from './emitter.js';
import { dayKey, dayName } from './format.js';
import { firstBelow, place } from './layout.js';
import { reason } from './reasons.js';
import { addressOf, ownerKey } from './route.js';
import { position, sendingTile, tileOf } from './tile.js';
import { t } from './words.js';

/** Pixels above and below the screen that have elements. */
const MARGIN = 600;
/** The next page of the list is read when its end is so many pixels below the screen. */
const READ_AHEAD = 2400;
/** A tile may begin so many pixels above an edge and still reach over it: the highest box on the widest phone. */
const TALLEST = 700;
const UNKNOWN_ASPECT = 1.5;
/** Pixels at the edges of the screen that a focused tile keeps free: the header is above it. */
const EDGES = { top: 80, bottom: 24 };

/** Events: `open`, `replace` and `remove` with the item or the items in `detail`, `selection`. */
export class Gallery extends Emitter {
  #images;
  #queue;
  #canvas = h('div', { class: 'canvas' });
  #foot = h('div', { class: 'foot' });
  #note = h('span', { class: 'muted' });
  #tiles = new Map();
  #sections = new Map();
  #items = [];
  #byKey = new Map();
  /** Counts the arrangements, so that a frame of scrolling touches new tiles only. */
  #arrangement = 0;
  #stop = null;
  #place = { tiles: [], headings: [], height: 0 };
  #frame = null;
  #currentKey = null;
  #anchor = null;
  #selected = new Set();

  constructor(images, queue) {
    super();
    this.#images = images;
    this.#queue = queue;
    this.element = h('section', { class: 'gallery', 'aria-label': t('gallery'), id: 'gallery', tabindex: -1 },
      h('p', { id: 'gallery-keys', hidden: true }, t('keys')), this.#canvas, this.#foot);
    images.on('change', () => this.#update());
    queue.on('change', (entry) => this.#entryChanged(entry));
    addEventListener('scroll', () => this.#schedule(), { passive: true });
    new ResizeObserver(() => this.#update()).observe(this.element);
    this.element.addEventListener('keydown', (event) => this.#key(event));
    this.element.addEventListener('focusin', (event) => { this.#currentKey = this.#keyOf(event.target) ?? this.#currentKey; });
  }

  get selected() {
    return this.#images.all.filter((item) => this.#selected.has(item.id));
  }

  clearSelection() {
    this.#selected.clear();
    this.#selectionChanged();
  }

  setNote(text) {
    this.#note.textContent = ` · ${text}`;
  }

  focus(id) {
    if (this.#byKey.has(id)) this.#moveTo(id);
    else this.element.focus({ preventScroll: true });
  }

  #entryChanged(entry) {
    const tile = entry && this.#tiles.get(`entry ${entry.id}`);
    if (tile && entry.state === 'sending') tile.refresh();
    else this.#update();
  }

  /** Compute the places again at the next frame. */
  #update() {
    this.#items = null;
    this.#schedule();
  }

  #schedule() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      // Beside the viewer the gallery has no width, and so no places. It is drawn again when it is seen.
      if (this.element.clientWidth > 0) this.#render();
    });
  }

  /** The pixels of the canvas that are above the screen. */
  get #top() {
    return -this.#canvas.getBoundingClientRect().top;
  }

  #render() {
    if (!this.#items) this.#arrange();
    const top = this.#top;
    const from = firstBelow(this.#place.tiles, top - MARGIN - TALLEST);
    const until = firstBelow(this.#place.tiles, top + innerHeight + MARGIN);
    this.#show(from, until);
    if (top + innerHeight + READ_AHEAD > this.#place.height && !this.#images.problem) this.#images.more();
  }

  #arrange() {
    const width = this.element.clientWidth;
    this.#arrangement++;
    const before = this.#scrollAnchor();
    this.#items = [...this.#sending(), ...this.#images.all.map((item) => ({
      key: item.id, aspect: aspectOf(item.document), day: item.day, item,
    }))];
    this.#byKey = new Map(this.#items.map((each, index) => [each.key, index]));
    this.#place = place(this.#items, width);
    this.#canvas.style.height = `${this.#place.height}px`;
    this.#restoreScroll(before);
    this.#showFoot();
  }

  /** Files that are being sent, before the images: they become images in the same place. */
  #sending() {
    const day = dayKey(new Date());
    const { owner } = this.#images;
    // Those that wait their turn are in the queue only: a thousand of them would push the images away.
    return this.#queue.in('sending', 'waiting').filter((entry) => (entry.transfer || entry.attempts > 0) && !entry.target
      && entry.file && (!owner || ownerKey(entry.owner) === ownerKey(owner)) && this.#measured(entry))
      .map((entry) => ({ key: `entry ${entry.id}`, aspect: entry.aspect, day, entry }));
  }

  #measured(entry) {
    if (entry.aspect === undefined) {
      entry.aspect = null;
      const image = new Image();
      image.onload = () => {
        entry.aspect = image.naturalWidth / image.naturalHeight;
        this.#update();
      };
      image.src = entry.preview;
    }
    return entry.aspect !== null;
  }

  #scrollAnchor() {
    const top = this.#top;
    if (top < 80) return null;
    const tile = this.#place.tiles[firstBelow(this.#place.tiles, top)];
    return tile ? { key: tile.key, offset: tile.y - top } : null;
  }

  #restoreScroll(anchor) {
    const index = anchor ? this.#byKey.get(anchor.key) : undefined;
    if (index === undefined) return;
    const moved = this.#place.tiles[index].y - anchor.offset - this.#top;
    if (Math.abs(moved) >= 1) scroll(moved);
  }

  #show(from, until) {
    const wanted = new Set(this.#place.tiles.slice(from, until).map(({ key }) => key));
    const focused = this.#currentKey;
    for (const [key, tile] of this.#tiles) {
      const isGone = !this.#byKey.has(key);
      // A tile that has the focus stays: without it the next key would go to the page.
      if (isGone || (!wanted.has(key) && !(key === focused && tile.contains(document.activeElement)))) {
        if (isGone && tile.contains(document.activeElement)) this.element.focus({ preventScroll: true });
        tile.remove();
        this.#tiles.delete(key);
      }
    }
    this.#showSections(from, until);
    for (let index = from; index < until; index++) this.#showTile(index);
    this.#setTabStop(from, until);
  }

  #showSections(from, until) {
    const days = new Set(this.#items.slice(from, until).map((each) => each.day));
    for (const [day, section] of this.#sections) {
      if (!days.has(day) && section.list.childElementCount === 0) {
        section.element.remove();
        this.#sections.delete(day);
      }
    }
    const newest = this.#place.headings[0]?.day;
    for (const { day, y } of this.#place.headings) {
      if (!days.has(day)) continue;
      const section = this.#sections.get(day) ?? this.#addSection(day);
      section.heading.style.transform = `translateY(${y}px)`;
      if (day === newest && this.#note.parentElement !== section.heading) section.heading.append(this.#note);
    }
  }

  #addSection(day) {
    const heading = h('h2', { id: `day-${day}` }, dayName(day));
    const list = h('div', { role: 'list', 'aria-labelledby': heading.id });
    const section = { element: h('div', { class: 'day' }, heading, list), heading, list, day };
    const after = [...this.#sections.values()].find((each) => each.day < day);
    this.#canvas.insertBefore(section.element, after?.element ?? null);
    this.#sections.set(day, section);
    return section;
  }

  #showTile(index) {
    const { key, item, entry, day } = this.#items[index];
    let tile = this.#tiles.get(key);
    if (tile?.arrangement === this.#arrangement) return;
    const look = item ? `${item.state} ${item.document.variants[0]?.url} ${item.document.error?.type}` : 'sending';
    if (!tile || tile.look !== look) {
      const made = item ? this.#make(item) : sendingTile(entry);
      made.look = look;
      // A picture that becomes ready sharpens. Those that scrolling brings do not: each fade is a layer for the compositor.
      made.classList.toggle('changed', Boolean(tile));
      const hadFocus = tile?.contains(document.activeElement);
      tile?.replaceWith(made);
      this.#tiles.set(key, made);
      tile = made;
      if (hadFocus) tile.querySelector('a')?.focus({ preventScroll: true });
    }
    const { list } = this.#sections.get(day);
    const previous = index > 0 && this.#items[index - 1].day === day ? this.#tiles.get(this.#items[index - 1].key) : null;
    if (tile.parentElement !== list || (previous && tile.previousElementSibling !== previous)) {
      list.insertBefore(tile, previous?.parentElement === list ? previous.nextSibling : list.firstChild);
    }
    position(tile, this.#place.tiles[index]);
    tile.arrangement = this.#arrangement;
  }

  #make(item) {
    const address = addressOf({ owner: this.#images.owner, image: item.id });
    return tileOf(item, address, this.#selected.has(item.id), {
      open: (opened, event) => this.#clicked(opened, event),
      select: (chosen, event) => this.#select(chosen, event.shiftKey),
      replace: (failed) => this.emit('replace', failed),
      remove: (failed) => this.emit('remove', [failed]),
    });
  }

  #showFoot() {
    const { problem, isLoading, isLoaded } = this.#images;
    const content = problem
      ? [h('p', { role: 'alert' }, `${t('load_failed')} ${reason(problem)}`), button(t('try_again'), () => this.#images.retry())]
      : isLoading && isLoaded ? [h('p', { class: 'muted' }, t('loading'))] : [];
    this.#foot.replaceChildren(...content);
  }

  #keyOf(element) {
    const tile = element.closest('.tile');
    return [...this.#tiles].find(([, each]) => each === tile)?.[0] ?? null;
  }

  /** One tile is reached by Tab: the current one, or the first on the screen. Arrow keys reach the others. */
  #setTabStop(from, until) {
    const key = this.#tiles.has(this.#currentKey) && this.#byKey.has(this.#currentKey) ? this.#currentKey : this.#items.slice(from, until).find((each) => each.item)?.key;
    const tile = this.#tiles.get(key);
    if (tile === this.#stop) return;
    for (const [each, index] of [[this.#stop, -1], [tile, 0]]) {
      each?.querySelectorAll('a, button').forEach((target) => { target.tabIndex = index; });
    }
    this.#stop = tile;
  }

  #key(event) {
    if (!this.#items) this.#arrange();
    const index = this.#byKey.get(this.#keyOf(event.target));
    const item = this.#items[index]?.item;
    if (!item || event.altKey || event.metaKey) return;
    if (event.ctrlKey && event.key !== 'a') return;
    const next = this.#neighbour(index, event.key);
    if (event.ctrlKey) this.#selectAll();
    else if (next !== null) this.#moveTo(this.#items[next].key);
    else if (event.key === ' ' && event.target.matches('a')) this.#select(item, event.shiftKey);
    else if (event.key === 'Delete') this.emit('remove', this.selected.length ? this.selected : [item]);
    else if (event.key === 'Escape' && this.#selected.size) this.clearSelection();
    else return;
    event.preventDefault();
  }

  #neighbour(index, key) {
    const last = this.#items.length - 1;
    switch (key) {
      case 'ArrowLeft': return Math.max(index - 1, 0);
      case 'ArrowRight': return Math.min(index + 1, last);
      case 'ArrowUp': return this.#vertical(index, -1);
      case 'ArrowDown': return this.#vertical(index, 1);
      case 'Home': return 0;
      case 'End': return last;
      default: return null;
    }
  }

  #vertical(index, direction) {
    const { tiles } = this.#place;
    const here = tiles[index];
    let best = index;
    let least = Infinity;
    let row = null;
    for (let other = index + direction; tiles[other]; other += direction) {
      const tile = tiles[other];
      if (Math.abs(tile.y - here.y) < 1) continue;
      row ??= tile.y;
      if (Math.abs(tile.y - row) > here.height) break;
      const distance = Math.abs(tile.x + tile.width / 2 - here.x - here.width / 2);
      if (distance < least) [best, least] = [other, distance];
    }
    return best;
  }

  #moveTo(key) {
    this.#currentKey = key;
    if (!this.#items) this.#arrange();
    const tile = this.#place.tiles[this.#byKey.get(key)];
    const above = tile.y - this.#top - EDGES.top;
    const below = above + EDGES.top + tile.height - innerHeight + EDGES.bottom;
    if (above < 0) scroll(above);
    else if (below > 0) scroll(below);
    this.#render();
    this.#tiles.get(key)?.querySelector('a')?.focus({ preventScroll: true });
  }

  #clicked(item, event) {
    if (event.metaKey || event.ctrlKey || event.button !== 0) return;
    event.preventDefault();
    if (event.shiftKey || this.#selected.size) this.#select(item, event.shiftKey);
    else this.emit('open', item);
  }

  #select(item, asRange) {
    const ids = this.#images.all.map(({ id }) => id);
    const from = asRange && this.#anchor ? ids.indexOf(this.#anchor) : -1;
    if (from >= 0) {
      const to = ids.indexOf(item.id);
      for (const id of ids.slice(Math.min(from, to), Math.max(from, to) + 1)) this.#selected.add(id);
    } else if (!this.#selected.delete(item.id)) this.#selected.add(item.id);
    this.#anchor = item.id;
    this.#selectionChanged();
  }

  #selectAll() {
    for (const item of this.#images.all) this.#selected.add(item.id);
    this.#selectionChanged();
  }

  #selectionChanged() {
    for (const [key, tile] of this.#tiles) {
      const box = tile.querySelector('.select input');
      if (box) box.checked = this.#selected.has(key);
      tile.classList.toggle('selected', this.#selected.has(key));
    }
    this.element.classList.toggle('selecting', this.#selected.size > 0);
    if (this.#selected.size) announce(t('selected', { count: this.#selected.size }));
    this.emit('selection');
  }
}

const scroll = (pixels) => scrollBy({ top: pixels, behavior: 'instant' });

function aspectOf({ original, variants }) {
  const file = variants[0] ?? original;
  return file && file.height ? file.width / file.height : UNKNOWN_ASPECT;
}
