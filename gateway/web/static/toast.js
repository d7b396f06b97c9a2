// Shows short messages at the lower edge, one with a button to undo; copies text.
import { announce } from './announce.js';
import { button, h } from './element.js';
import { t } from './words.js';

const SECONDS = 4;

/** The place of the messages, to be put into the page once. */
export const toasts = h('section', { class: 'toasts', 'aria-label': t('messages') });

/**
 * Show a message for some seconds, and announce it. With `undo` it has a button. The time stands still while the pointer
 * or the focus is on the message. `onend` is called when the time is over. Returns a function that ends it at once.
 */
export function toast(sentence, { seconds = SECONDS, undo = null, onend = () => {} } = {}) {
  let left = seconds * 10;
  const line = h('span', { class: 'time', 'aria-hidden': 'true' });
  const element = h('div', { class: 'toast' }, h('span', { dir: 'auto' }, sentence),
    undo && button(t('undo'), () => { close(); undo(); }, { class: 'link' }), undo && line);
  const timer = setInterval(() => {
    if (element.matches(':hover, :focus-within')) return;
    left--;
    line.style.transform = `scaleX(${left / seconds / 10})`;
    if (left > 0) return;
    close();
    onend();
  }, 100);
  const close = () => {
    clearInterval(timer);
    element.remove();
  };
  toasts.append(element);
  announce(undo ? `${sentence} ${t('undo')}?` : sentence);
  return close;
}

/** Copy a text, and report it. Without HTTPS browsers have no clipboard: then the text is shown. */
export async function copy(text, sentence = t('copied')) {
  try {
    await navigator.clipboard.writeText(text);
    toast(sentence);
  } catch {
    prompt(t('copy_refused'), text);
  }
}
