// The corner that shows whether uploads, lists and pictures work, and what to do if they do not.
import { announce } from './announce.js';
import { getStatus } from './api.js';
import { h, setAttribute } from './element.js';
import { Emitter } from './emitter.js';
import { time } from './format.js';
import { engineName } from './reasons.js';
import { t } from './words.js';

/** Milliseconds between two requests, and while something is unavailable. The gateway checks its engines every 10 s. */
const PAUSE = 15_000;
const SHORT_PAUSE = 5_000;
/** The engines that each part needs. */
const PARTS = { uploads: ['kafka', 's3', 'cassandra'], lists: ['cassandra'], pictures: ['s3', 'cassandra'] };

/** Used until the gateway answers for the first time; these are its defaults. */
const DEFAULTS = {
  variants: ['full', 'large', 'medium', 'small'],
  limits: { content_types: ['image/jpeg', 'image/png', 'image/webp'], file_bytes: 5 * 1024 * 1024, pixels: 64_000_000, side: 16_383 },
};

/** Events: `change` when something became unavailable or available. */
export class Status extends Emitter {
  #live;
  #document = null;
  #fails = false;
  #summary = null;
  #timer = null;
  #word = h('span', { class: 'word' }, t('checking'));
  #details = h('div', { popover: 'auto', id: 'system', class: 'popover', 'aria-label': t('system'), role: 'dialog' });

  constructor(live) {
    super();
    this.#live = live;
    this.button = h('button', { type: 'button', class: 'system', popovertarget: 'system', title: t('system') },
      h('span', { class: 'dot', 'aria-hidden': 'true' }), this.#word);
    this.element = h('div', { class: 'corner' }, this.button, this.#details);
    live.on('state', () => this.#show());
    addEventListener('visibilitychange', () => document.hidden || this.read());
  }

  get limits() {
    return (this.#document ?? DEFAULTS).limits;
  }

  get sizes() {
    return (this.#document ?? DEFAULTS).variants.length;
  }

  get unavailable() {
    return this.#fails || !this.#document ? [] : Object.entries(this.#document.engines).filter(([, { available }]) => !available).map(([name]) => name);
  }

  async read() {
    try {
      this.#document = await getStatus();
      this.#fails = false;
    } catch {
      this.#fails = true;
    }
    this.#show();
    const isFine = !this.#fails && this.unavailable.length === 0;
    clearTimeout(this.#timer);
    // A page that is not seen asks less often: by the event when it is seen again.
    if (!document.hidden) this.#timer = setTimeout(() => this.read(), isFine ? PAUSE : SHORT_PAUSE);
  }

  #show() {
    if (!this.#document && !this.#fails) return;
    const gone = this.unavailable;
    const isFine = !this.#fails && gone.length === 0;
    const summary = isFine ? t('all_ready') : this.#fails ? t('no_answer') : t('some_unavailable', { engines: gone.map(engineName).join(', ') });
    this.button.className = `system ${isFine ? 'good' : 'bad'}`;
    this.#word.textContent = summary;
    this.#details.replaceChildren(...this.#lines(gone));
    if (this.#summary !== summary) {
      if (this.#summary !== null) announce(summary);
      this.emit('change');
    }
    this.#summary = summary;
    setAttribute(this.button, 'aria-label', `${t('system')}: ${summary}`);
  }

  #lines(gone) {
    const { engines, uploads } = this.#document ?? {};
    const lines = Object.entries(PARTS).map(([part, needed]) => {
      const works = !this.#fails && !needed.some((engine) => gone.includes(engine));
      return line(part, works, works ? 'works' : part === 'uploads' ? 'wait' : 'unavailable', works ? '' : t(`advice_${part}`));
    });
    const { isConnected } = this.#live;
    const reasons = this.#fails ? [t('advice_gateway')] : gone.map((engine) =>
      t('since', { engine: engineName(engine), time: time(new Date(engines[engine].since)) }));
    return [
      ...reasons.map((text) => h('p', { class: 'reason' }, text)),
      h('dl', {}, lines, line('live', isConnected, isConnected ? 'connected' : 'reconnecting', '')),
      this.#fails ? '' : h('p', { class: 'muted' }, t('slots', { used: uploads.in_progress, free: uploads.free })),
      h('p', {}, h('a', { href: 'docs' }, t('documentation'))),
    ];
  }
}

function line(part, works, word, advice) {
  return h('div', { class: works ? 'good' : 'bad' },
    h('dt', {}, t(`part_${part}`)), h('dd', {}, h('span', { class: 'dot', 'aria-hidden': 'true' }), t(word), h('small', {}, advice)));
}
