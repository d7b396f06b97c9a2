// Shows the upload queue: a panel at the lower right with a row for each file, which folds into a pill.
import { announce } from './announce.js';
import { button, h, outline } from './element.js';
import { bytes, percent } from './format.js';
import { entryReason } from './reasons.js';
import { urlOf } from './snippets.js';
import { copy } from './toast.js';
import { isolated, t } from './words.js';

/** Milliseconds between two updates, and the rows that one of them makes: hundreds at once would block the page. */
const PAUSE = 50;
const ROWS_AT_ONCE = 30;
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
  /** Entries that changed since the last update. */
  #changed = new Set();
  #timer = null;
  #samples = [];
  #announced = '';

  constructor(queue, system, chooseOne) {
    this.#queue = queue;
    this.#system = system;
    this.#chooseOne = chooseOne;
    this.fold = button([this.#title, this.#summary, outline('M6 9l6 6 6-6')], () => this.#toggle(), { class: 'fold' });
    this.element = h('section', { class: 'queue', 'aria-label': t('uploads'), hidden: true }, this.fold, this.#list, this.#actions);
    queue.on('change', (entry) => {
      if (entry) this.#changed.add(entry);
      this.#schedule();
    });
    queue.on('shrunk', ({ name: fileName, before, size }) =>
      announce(t('shrunk_announce', { name: isolated(fileName), before: bytes(before), after: bytes(size) })));
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

  #schedule() {
    this.#timer ??= setTimeout(() => this.#update(), PAUSE);
  }

  #update() {
    this.#timer = null;
    const { entries } = this.#queue;
    this.element.hidden = entries.length === 0;
    const present = new Set(entries);
    for (const [entry, row] of this.#rows) if (!present.has(entry)) this.#removeRow(entry, row);
    // New rows first, in the order of the entries; a row that is not there yet will show what its entry is then.
    const stale = [...entries.filter((entry) => !this.#rows.has(entry)), ...[...this.#changed].filter((entry) => this.#rows.has(entry))];
    for (const entry of stale.slice(0, ROWS_AT_ONCE)) this.#showRow(entry);
    this.#changed = new Set(stale.slice(ROWS_AT_ONCE));
    if (this.#changed.size) this.#schedule();
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
    const look = `${entry.state} ${entry.problem?.code} ${entry.document?.thumbhash}`;
    let row = this.#rows.get(entry);
    if (row?.look !== look) {
      const hadFocus = row?.element.contains(document.activeElement);
      const made = this.#row(entry);
      if (row) row.element.replaceWith(made.element);
      else this.#list.append(made.element);
      row = made;
      this.#rows.set(entry, Object.assign(row, { look }));
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
      h('bdi', { class: 'name', dir: 'auto', title: entry.name }, entry.name),
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
    const url = entry.document?.variants.at(-1)?.url ?? entry.preview;
    return url ? h('img', { src: url, alt: '', loading: 'lazy', decoding: 'async', class: 'thumbnail' })
      : h('span', { class: 'thumbnail', 'aria-hidden': 'true' });
  }

  #sentence(entry) {
    const { state, problem, before, size, sent, document: found, target } = entry;
    if (problem) return entryReason(entry, this.#system.limits);
    const after = found?.variants.reduce((sum, variant) => sum + variant.size, 0) ?? 0;
    let key = state;
    if (state === 'sending' && sent === size) key = 'sent';
    else if (state === 'ready' && (before || target)) key = before ? 'ready_shrunk' : 'replaced';
    return t(`entry_${key}`, {
      sizes: this.#system.sizes, sent: bytes(sent), size: bytes(size), before: bytes(before ?? 0), after: bytes(after) });
  }

  #buttons(entry) {
    const { state } = entry;
    const make = (word, onclick) => button(t(word), onclick, { class: 'link', 'aria-label': `${t(word)} ${entry.name}` });
    const remove = (word) => make(word, () => this.#queue.cancel(entry));
    if (state === 'ready') return make('copy', () => copy(urlOf(entry.document)));
    if (entry.isPending) return state === 'processing' || state === 'shrinking' ? null : remove('cancel');
    return [
      state === 'large' && make('shrink', () => this.#queue.shrink(entry)),
      state === 'failed' && entry.file && make('retry', () => this.#queue.retry(entry)),
      state === 'lost' && make('choose_again', () => this.#chooseAgain(entry)),
      remove('dismiss'),
    ];
  }

  #chooseAgain(entry) {
    this.#chooseOne((file) => {
      if (file.name !== entry.name || file.size !== entry.size) this.#queue.cancel(entry);
      this.#queue.add([file], entry.owner, entry.target);
    });
  }

  #showSummary() {
    const queue = this.#queue;
    const of = (...states) => queue.in(...states).length;
    const counts = { done: of('ready'), all: queue.entries.length };
    const failed = of('failed', 'refused', 'lost');
    const title = t(counts.done === counts.all ? 'queue_done' : 'queue_ready', counts);
    const failures = failed ? [t('queue_failed', { count: failed })] : [];
    this.#title.textContent = this.#isFolded ? t('queue_pill', counts) : title;
    this.#summary.textContent = [...failures, ...this.#timeLeft()].join(' · ');
    this.#showActions();
    const sentence = [title, ...failures].join(', ');
    if (counts.all && sentence !== this.#announced) announce(sentence);
    this.#announced = sentence;
  }

  #showActions() {
    const queue = this.#queue;
    const retried = queue.failed.length;
    const large = queue.in('large').length;
    const cancelled = queue.cancellable.length;
    const ended = queue.ended.length;
    const wanted = [
      retried > 1 && ['retry_failed', retried, () => queue.retryFailed()],
      large > 1 && ['shrink_all', large, () => queue.shrinkAll()],
      cancelled > 1 && ['cancel_all', cancelled, () => queue.cancel(...queue.cancellable)],
      ended > 0 && ['clear_finished', ended, () => queue.cancel(...queue.ended)],
    ].filter(Boolean).map(([key, count, onclick]) => [t(key, { count }), onclick]);
    const look = JSON.stringify(wanted);
    if (this.#actions.dataset.look === look) return;
    this.#actions.dataset.look = look;
    this.#actions.replaceChildren(...wanted.map(([label, onclick]) => button(label, onclick, { class: 'link' })));
  }

  /** The time until all bytes are sent, at the rate of the last seconds, in a list; an empty one if that is not known. */
  #timeLeft() {
    const now = Date.now();
    const active = [...this.#queue.in('sending'), ...this.#queue.in('waiting').filter((each) => !each.problem)];
    const left = active.reduce((sum, each) => sum + each.size - (each.state === 'sending' ? each.sent : 0), 0);
    this.#samples = [...this.#samples.filter((each) => now - each.time < RATE_WINDOW), { time: now, left }];
    const [first] = this.#samples;
    const seconds = Math.ceil(left / ((first.left - left) / (now - first.time)) / 1000);
    if (now - first.time < 1000 || !(seconds > 0) || seconds === Infinity) return [];
    return [t('queue_left', { time: seconds < 60 ? `${seconds} s` : `${Math.round(seconds / 60)} min` })];
  }
}
