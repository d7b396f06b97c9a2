// Shows one image: the comparison of its sizes, what a developer copies, its details, and how to replace or delete it.
import { getImage } from './api.js';
import { Comparison } from './comparison.js';
import { button, h, name, outline } from './element.js';
import { Emitter } from './emitter.js';
import { bytes, dateTime, dimensions, percent } from './format.js';
import { placeholder } from './placeholder.js';
import { entryReason, reason } from './reasons.js';
import { imgTag, markdown, pictureTag, urlOf } from './snippets.js';
import { copy } from './toast.js';
import { isolated, maybe, t } from './words.js';

/** Events: `close`, `move` with the id of another image, `replace` and `remove` with the item in `detail`. */
export class Viewer extends Emitter {
  #images;
  #queue;
  #system;
  #comparison = new Comparison();
  #panel = h('div', { class: 'panel', tabindex: -1 });
  #id = null;
  #document = null;
  #variant = null;
  #look = null;

  constructor(images, queue, system) {
    super();
    this.#images = images;
    this.#queue = queue;
    this.#system = system;
    this.element = h('section', { class: 'viewer', 'aria-label': t('viewer'), hidden: true }, this.#comparison.element, this.#panel);
    images.on('change', () => this.#update());
    queue.on('change', () => this.#update());
    addEventListener('keydown', (event) => this.#key(event));
  }

  /** The id of the image that is shown; null if the viewer is closed. */
  get id() {
    return this.#id;
  }

  get isOpen() {
    return this.#id !== null;
  }

  async open(id) {
    this.#id = id;
    this.#document = this.#images.get(id)?.document ?? null;
    this.#variant = null;
    this.#look = null;
    this.element.hidden = false;
    this.#update();
    this.#panel.focus({ preventScroll: true });
    if (this.#document) return;
    try {
      const found = await getImage(id);
      if (this.#id === id) this.#take(found);
    } catch (problem) {
      if (this.#id === id) this.#missing(problem);
    }
  }

  close() {
    this.#id = null;
    this.element.hidden = true;
  }

  /** A status document was read or changed. */
  take(document_) {
    if (document_.image_id === this.#id) this.#take(document_);
  }

  removed(id) {
    if (id === this.#id) this.#missing({ status: 404 });
  }

  #take(document_) {
    this.#document = document_;
    this.#update();
  }

  #missing(problem) {
    this.#document = null;
    this.#look = null;
    this.#comparison.element.hidden = true;
    this.#panel.replaceChildren(this.#navigation(), h('h1', {}, t('no_picture')),
      h('p', {}, problem.status === 404 ? t('not_found') : reason(problem)));
  }

  #update() {
    if (!this.isOpen) return;
    this.#document = this.#images.get(this.#id)?.document ?? this.#document;
    const notice = this.#document ? this.#notice() : null;
    const look = JSON.stringify([this.#document, this.#variant, notice, this.#neighbours()]);
    if (!this.#document || look === this.#look) return;
    this.#look = look;
    this.#draw(notice);
  }

  #draw(notice) {
    const found = this.#document;
    const variant = found.variants.find((each) => each.name === this.#variant) ?? found.variants[0];
    this.#comparison.element.hidden = false;
    this.#comparison.show(found, variant);
    // The focus stays on the same control when the panel is drawn again.
    const focused = this.#panel.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const file = variant ?? found.original;
    this.#panel.replaceChildren(
      this.#navigation(),
      h('h1', {}, name(found.file_name ?? found.image_id)),
      h('p', { class: 'muted' }, ownerName(found), ` · ${dateTime(new Date(found.uploaded_at))} · ${file ? dimensions(file) : ''}`),
      notice ? h('p', { class: `notice ${notice.kind}` }, notice.text) : '',
      this.#table(found, variant), ...this.#copying(found), this.#details(found), this.#actions());
    if (focused) this.#panel.querySelector(`[data-key="${focused}"]`)?.focus({ preventScroll: true });
  }

  #navigation() {
    const { previous, next } = this.#neighbours();
    const move = (id) => this.emit('move', id);
    return h('nav', {},
      button([outline('M15 6l-6 6 6 6'), t('back')], () => this.emit('close'), { class: 'back', 'data-key': 'back' }),
      h('span', { class: 'grow' }),
      button(t('previous'), () => move(previous), { disabled: !previous, 'data-key': 'previous' }),
      button(t('next'), () => move(next), { disabled: !next, 'data-key': 'next' }));
  }

  #neighbours() {
    const { all } = this.#images;
    const index = all.findIndex(({ id }) => id === this.#id);
    if (index >= 0 && index > all.length - 5) this.#images.more();
    return index < 0 ? {} : { previous: all[index - 1]?.id, next: all[index + 1]?.id };
  }

  #notice() {
    const { pending, status, error, variants } = this.#document;
    const { limits, sizes } = this.#system;
    const entry = this.#queue.in('sending', 'waiting', 'refused', 'failed').findLast((each) => each.target === this.#id);
    const busy = (text) => ({ kind: 'busy', text });
    const failed = (key, why, fileName = '') => ({ kind: 'failed', text: t(key, { reason: why, name: isolated(fileName) }) });
    if (entry?.isPending) {
      const parameters = { name: isolated(entry.name), percent: percent(entry.sent / entry.size) };
      return busy(entry.problem ? entryReason(entry, limits) : t('replacing_sending', parameters));
    }
    if (pending?.status === 'processing') return busy(t('replacing', { name: isolated(pending.file_name) }));
    if (pending?.status === 'failed') return failed('replace_failed', reason(pending.error), pending.file_name);
    if (entry) return failed('replace_failed', entryReason(entry, limits), entry.name);
    if (status === 'failed') return failed('failed_long', error ? reason(error) : '');
    return variants.length === 0 ? busy(t('processing_long', { sizes })) : null;
  }

  #table({ original, variants }, shown) {
    const row = (label, file, saved, isShown) => h('tr', { class: isShown ? 'shown' : '' },
      h('th', { scope: 'row' }, label), h('td', {}, dimensions(file)), h('td', {}, bytes(file.size)), h('td', { class: 'saved' }, saved));
    const choose = (variant) => button(variant.name, () => this.#choose(variant.name), {
      class: 'size', 'aria-pressed': String(variant === shown), 'data-key': `size-${variant.name}` });
    return h('table', {},
      h('thead', {}, h('tr', {}, ...['size', 'pixels', 'bytes', 'saved'].map((key) => h('th', { scope: 'col' }, t(key))))),
      h('tbody', {}, original ? row(t('original'), original, '', false) : '',
        ...variants.map((variant) => row(choose(variant), variant, original ? savedShare(original, variant) : '', variant === shown))));
  }

  #choose(variant) {
    this.#variant = variant;
    this.#update();
  }

  #copying(found) {
    if (!found.original && found.variants.length === 0) return [];
    const variant = found.variants.find((each) => each.name === this.#variant);
    const texts = [['copy_url', t('copy_url'), variant?.url ?? urlOf(found)], ['markdown', 'Markdown', markdown(found)],
      ['img', '<img>', imgTag(found)], ['picture', '<picture>', pictureTag(found)]];
    return [
      h('div', { class: 'buttons' }, texts.map(([key, label, text], index) =>
        button(label, () => copy(text), { class: index === 0 ? 'primary' : '', 'data-key': key }))),
      h('h2', {}, t('ready_to_paste')), h('pre', { tabindex: 0, 'data-key': 'paste' }, shortened(imgTag(found))),
    ];
  }

  #details(found) {
    const rows = [];
    const blurred = placeholder(found);
    if (blurred) {
      rows.push([t('placeholder'), h('span', { class: 'swatch' }, h('img', { src: blurred, alt: '' })), h('code', {}, found.thumbhash)]);
    }
    if (found.dominant_color) {
      const swatch = h('span', { class: 'swatch' });
      swatch.style.backgroundColor = found.dominant_color;
      rows.push([t('dominant_color'), swatch, h('code', {}, found.dominant_color)]);
    }
    for (const note of found.notes) rows.push([t('notes'), maybe(`note_${note}`) ?? note]);
    rows.push([t('image_id'), h('code', {}, found.image_id)]);
    return h('dl', { class: 'details' }, rows.map(([label, ...values]) => h('div', {}, h('dt', {}, label), h('dd', {}, values))));
  }

  #actions() {
    const item = { id: this.#id, document: this.#document };
    return h('div', { class: 'buttons' },
      button(t('replace_button'), () => this.emit('replace', item), { 'data-key': 'replace' }),
      button(t('delete'), () => this.emit('remove', item), { class: 'danger', 'data-key': 'delete' }));
  }

  #key(event) {
    if (!this.isOpen || event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
    const isTyping = event.target.matches('input, textarea, select, pre');
    const { previous, next } = this.#neighbours();
    if (event.key === 'Escape' && !document.querySelector(':popover-open')) this.emit('close');
    else if (event.key === 'ArrowLeft' && previous && !isTyping) this.emit('move', previous);
    else if (event.key === 'ArrowRight' && next && !isTyping) this.emit('move', next);
    else return;
    event.preventDefault();
  }
}

function ownerName({ owner_type: type, owner_id: id }) {
  return type === 'image' ? t('no_owner') : name(`${type}:${id}`);
}

/** A snippet with the names of its files only, because the addresses would fill the page. */
const shortened = (snippet) => snippet.replace(/https?:\/\/[^"\s]*\//g, '…/');

/** The share of the original's bytes that a variant saves; a larger one saves nothing. */
function savedShare(original, variant) {
  const saved = 1 - variant.size / original.size;
  return saved > 0 ? `${percent(saved)} %` : '–';
}
