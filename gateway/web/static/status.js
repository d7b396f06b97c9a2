// The corner that shows whether uploads, lists and pictures work, and what to do if they do not.
import { announce } from './announce.js';
import { getStatus } from './api.js';
import { h, setAttribute } from './element.js';
import { time } from './format.js';
import { engineName } from './reasons.js';
import { t } from './words.js';

/** Milliseconds between two requests, and while something is unavailable. The gateway checks its engines every 10 s. */
const PAUSE = 15_000;
const SHORT_PAUSE = 5_000;
/** The engines that each part needs. */
const PARTS = { uploads: ['kafka', 's3', 'cassandra'], lists: ['cassandra'], pictures: ['s3', 'cassandra'] };

/** Events: `change` when something became unavailable or available. */
export class Status extends EventTarget {
  #live;
  #document = null;
  #fails = false;
  #summary = null;
  #timer = null;
  #word = h('span', { class: 'word' }, t('checking'));
  #details = h('div', { popover: 'auto', id: 'system', class: 'popover', 'aria-label': t('system'), role: 'dialog' });

  /** `first` is the document to begin with: null without an answer, undefined if there is none yet. */
  constructor(live, first) {
    super();
    this.#live = live;
    this.button = h('button', { type: 'button', class: 'system', popovertarget: 'system', title: t('system') },
      h('span', { class: 'dot', 'aria-hidden': 'true' }), this.#word);
    this.element = h('div', { class: 'corner' }, this.button, this.#details);
    live.addEventListener('state', () => this.#show());
    addEventListener('visibilitychange', () => document.hidden || this.read());
    if (first === undefined) this.read();
    else this.#take(first);
  }

  get limits() {
    return this.#document?.limits;
  }

  get sizes() {
    return this.#document?.variants.length;
  }

  get unavailable() {
    return this.#fails || !this.#document ? [] : Object.keys(this.#document.engines).filter((each) => !this.#document.engines[each].available);
  }

  async read() {
    clearTimeout(this.#timer);
    try {
      this.#take(await getStatus());
    } catch {
      this.#take(null);
    }
  }

  #take(document_) {
    this.#fails = document_ === null;
    this.#document = document_ ?? this.#document;
    this.#show();
    const isFine = !this.#fails && this.unavailable.length === 0;
    // A page that is not seen asks less often: by the event when it is seen again.
    if (!document.hidden) this.#timer = setTimeout(() => this.read(), isFine ? PAUSE : SHORT_PAUSE);
  }

  #show() {
    const gone = this.unavailable;
    if (!this.#document && !this.#fails) return;
    const summary = this.#fails ? t('no_answer')
      : gone.length ? t('some_unavailable', { engines: gone.map(engineName).join(', ') }) : t('all_ready');
    this.button.className = `system ${this.#fails || gone.length ? 'bad' : 'good'}`;
    this.#word.textContent = summary;
    this.#details.replaceChildren(...this.#lines(gone));
    if (this.#summary !== summary) {
      if (this.#summary !== null) announce(summary);
      this.dispatchEvent(new Event('change'));
    }
    this.#summary = summary;
    setAttribute(this.button, 'aria-label', `${t('system')}: ${summary}`);
  }

  #lines(gone) {
    const lines = Object.entries(PARTS).map(([part, engines]) => {
      const works = !this.#fails && !engines.some((engine) => gone.includes(engine));
      return line(t(`part_${part}`), works, works ? t('works') : part === 'uploads' ? t('wait') : t('unavailable'), works ? null : t(`advice_${part}`));
    });
    const isConnected = this.#live.isConnected;
    lines.push(line(t('part_live'), isConnected, isConnected ? t('connected') : t('reconnecting'), null));
    const reasons = this.#fails ? [t('advice_gateway')] : gone.map((engine) =>
      t('since', { engine: engineName(engine), time: time(new Date(this.#document.engines[engine].since)) }));
    const uploads = this.#document?.uploads;
    return [
      ...reasons.map((text) => h('p', { class: 'reason' }, text)),
      h('dl', {}, lines),
      uploads && !this.#fails ? h('p', { class: 'muted' }, t('slots', { used: uploads.in_progress, free: uploads.free })) : null,
      h('p', {}, h('a', { href: 'docs' }, t('documentation'))),
    ].filter(Boolean);
  }
}

function line(label, works, word, advice) {
  return h('div', { class: works ? 'good' : 'bad' },
    h('dt', {}, label), h('dd', {}, h('span', { class: 'dot', 'aria-hidden': 'true' }), word, advice && h('small', {}, advice)));
}
