// Shows the upload queue: a panel at the lower right with a row for each file, which folds into a pill.
import { announce } from './announce.js';
import { button, h, name, outline } from './element.js';
import { bytes, percent } from './format.js';
import { entryReason } from './reasons.js';
import { urlOf } from './snippets.js';
import { copy } from './toast.js';
import { isolated, t } from './words.js';

/** Milliseconds between two updates of the numbers. */
const PAUSE = 250;
/** The rate of an upload is measured over so many milliseconds. */
const RATE_WINDOW = 8000;

/** The panel. `system` has the limits and the number of sizes, `chooseOne` asks for a file. */
export class QueueView {
  #queue;
  #system;
  #chooseOne;
  #rows = new Map();
  #title = h('span', {});
  #summary = h('span', { class: 'muted' });
  #list = h('ul', { class: 'rows' });
  #actions = h('div', { class: 'actions' });
  #isFolded = false;
  #timer = null;
  #samples = [];
  #announced = '';

  constructor(queue, system, chooseOne) {
    this.#queue = queue;
    this.#system = system;
    this.#chooseOne = chooseOne;
    this.fold = h('button', { type: 'button', class: 'fold', onclick: () => this.#toggle() }, this.#title, this.#summary, outline('M6 9l6 6 6-6'));
    this.element = h('section', { class: 'queue', 'aria-label': t('uploads'), hidden: true }, this.fold, this.#list, this.#actions);
    queue.addEventListener('change', ({ detail }) => this.#changed(detail));
    queue.addEventListener('shrunk', ({ detail }) => this.#shrunk(detail));
    this.#showFold();
  }

  open() {
    this.#isFolded = false;
    this.#showFold();
  }

  #toggle() {
    this.#isFolded = !this.#isFolded;
    this.#showFold();
    this.#showSummary();
  }

  #showFold() {
    this.element.classList.toggle('folded', this.#isFolded);
    this.fold.setAttribute('aria-expanded', String(!this.#isFolded));
    this.fold.title = this.#isFolded ? t('unfold') : t('fold');
  }

  #changed(entry) {
    if (entry?.state === 'sending' && this.#rows.get(entry)?.state === 'sending') {
      this.#rows.get(entry).refresh();
      this.#timer ??= setTimeout(() => this.#update(), PAUSE);
      return;
    }
    this.#timer ??= setTimeout(() => this.#update(), 16);
  }

  #update() {
    this.#timer = null;
    const { entries } = this.#queue;
    this.element.hidden = entries.length === 0;
    const present = new Set(entries);
    for (const [entry, row] of this.#rows) if (!present.has(entry)) this.#removeRow(entry, row);
    for (const entry of entries) this.#showRow(entry);
    this.#showSummary();
  }

  #removeRow(entry, row) {
    if (row.element.contains(document.activeElement)) {
      const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
      (next?.querySelector('button') ?? this.fold).focus();
    }
    row.element.remove();
    this.#rows.delete(entry);
  }

  #showRow(entry) {
    const look = `${entry.state} ${entry.problem?.code} ${entry.preview} ${entry.name} ${entry.document?.thumbhash}`;
    let row = this.#rows.get(entry);
    if (row?.look !== look) {
      const hadFocus = row?.element.contains(document.activeElement);
      const made = this.#row(entry);
      if (row) row.element.replaceWith(made.element);
      else this.#list.append(made.element);
      row = made;
      this.#rows.set(entry, Object.assign(row, { look, state: entry.state }));
      if (hadFocus) (row.element.querySelector('button') ?? this.fold).focus();
    }
    row.refresh();
  }

  #row(entry) {
    const bar = h('progress', { max: entry.size, 'aria-label': entry.name });
    const isSending = entry.state === 'sending';
    const text = h('span', { class: 'text' });
    const side = h('span', { class: 'percent' });
    const element = h('li', { class: `row ${entry.state}` },
      this.#thumbnail(entry),
      h('span', { class: 'name', title: entry.name }, name(entry.name)),
      isSending ? bar : null, text,
      h('span', { class: 'side' }, isSending ? side : null, this.#buttons(entry)));
    const refresh = () => {
      text.textContent = this.#sentence(entry);
      side.textContent = `${percent(entry.sent / entry.size)} %`;
      // All bytes are sent, and the answer is not there: the bar moves without an end.
      if (entry.sent < entry.size) bar.value = entry.sent;
      else bar.removeAttribute('value');
    };
    return { element, refresh };
  }

  #thumbnail(entry) {
    const url = entry.document?.variants.at(-1)?.url ?? this.#preview(entry);
    return url ? h('img', { src: url, alt: '', loading: 'lazy', decoding: 'async', class: 'thumbnail' })
      : h('span', { class: 'thumbnail', 'aria-hidden': 'true' });
  }

  #preview(entry) {
    const isPicture = entry.file && this.#system.limits.content_types.includes(entry.kind);
    if (isPicture) entry.preview ??= URL.createObjectURL(entry.file);
    return entry.preview;
  }

  #sentence(entry) {
    const { state, problem, before, size, sent, document: found, target } = entry;
    if (problem) return entryReason(entry, this.#system.limits);
    switch (state) {
      case 'sending':
        return sent < size ? t('entry_sending', { sent: bytes(sent), size: bytes(size) }) : t('entry_sent');
      case 'waiting':
        return t('entry_waiting');
      case 'processing':
        return t('entry_processing', { sizes: this.#system.sizes });
      case 'ready': {
        const after = found.variants.reduce((sum, variant) => sum + variant.size, 0);
        const key = before ? 'entry_ready_shrunk' : target ? 'entry_replaced' : 'entry_ready';
        return t(key, { first: bytes(before ?? size), before: bytes(size), after: bytes(after) });
      }
      default:
        return t(`entry_${state}`);
    }
  }

  #buttons(entry) {
    const make = (word, onclick) => button(t(word), onclick, { class: 'link', 'aria-label': `${t(word)} ${entry.name}` });
    const remove = () => this.#queue.cancel(entry);
    switch (entry.state) {
      case 'large':
        return [make('shrink', () => this.#queue.shrink(entry)), make('dismiss', remove)];
      case 'failed':
        return [entry.file && make('retry', () => this.#queue.retry(entry)), make('dismiss', remove)];
      case 'lost':
        return [make('choose_again', () => this.#chooseAgain(entry)), make('dismiss', remove)];
      case 'ready':
        return [make('copy', () => copy(urlOf(entry.document)))];
      case 'refused': case 'removed':
        return [make('dismiss', remove)];
      case 'processing': case 'shrinking':
        return [];
      default:
        return [make('cancel', remove)];
    }
  }

  #chooseAgain(entry) {
    this.#chooseOne((file) => {
      if (file.name !== entry.name || file.size !== entry.size) this.#queue.cancel(entry);
      this.#queue.add([file], entry.owner, entry.target);
    });
  }

  #shrunk(entry) {
    announce(t('shrunk_announce', { name: isolated(entry.name), before: bytes(entry.before), after: bytes(entry.size) }));
  }

  #showSummary() {
    const { entries } = this.#queue;
    const of = (...states) => entries.filter((each) => states.includes(each.state)).length;
    const counts = { done: of('ready'), all: entries.length, failed: of('failed', 'refused', 'lost'), large: of('large') };
    const isOver = !entries.some((each) => each.isPending) && !counts.large;
    const title = counts.done === counts.all && counts.all ? t('queue_done', counts) : t('queue_ready', counts);
    this.#title.textContent = this.#isFolded ? t('queue_pill', counts) : title;
    const left = this.#secondsLeft();
    const parts = [counts.failed && t('queue_failed', { count: counts.failed }), left !== null && t('queue_left', { seconds: left })];
    const summary = parts.filter(Boolean).join(' · ');
    this.#summary.textContent = summary;
    this.#showActions(counts.large, isOver);
    const sentence = [title, counts.failed && t('queue_failed', { count: counts.failed })].filter(Boolean).join(', ');
    if (entries.length && sentence !== this.#announced) announce(sentence);
    this.#announced = sentence;
  }

  #showActions(large, isOver) {
    const { entries } = this.#queue;
    const canRetry = entries.filter((each) => each.state === 'failed' && each.file).length;
    const wanted = [
      canRetry > 1 && ['retry_failed', { count: canRetry }, () => this.#queue.retryFailed()],
      large > 1 && ['shrink_all', { count: large }, () => this.#queue.shrinkAll()],
      !isOver && entries.length > 1 && ['cancel_all', {}, () => this.#queue.cancelAll()],
      entries.some((each) => !each.isPending && each.state !== 'large') && ['clear_finished', {}, () => this.#queue.clearFinished()],
    ].filter(Boolean);
    const look = JSON.stringify(wanted);
    if (this.#actions.dataset.look === look) return;
    this.#actions.dataset.look = look;
    this.#actions.replaceChildren(...wanted.map(([key, parameters, onclick]) => button(t(key, parameters), onclick, { class: 'link' })));
  }

  /** Seconds until all bytes are sent, at the rate of the last seconds; null if that is not known. */
  #secondsLeft() {
    const now = Date.now();
    const active = this.#queue.entries.filter((each) => each.state === 'sending' || (each.state === 'waiting' && !each.problem));
    const left = active.reduce((sum, each) => sum + each.size - (each.state === 'sending' ? each.sent : 0), 0);
    this.#samples = [...this.#samples.filter((each) => now - each.time < RATE_WINDOW), { time: now, left }];
    const [first] = this.#samples;
    const rate = (first.left - left) / ((now - first.time) / 1000);
    return left > 0 && rate > 0 && now - first.time > 1000 ? Math.ceil(left / rate) : null;
  }
}
