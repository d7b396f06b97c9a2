// Reports what happens to assistive technology, by a polite live region.
import { h } from './element.js';

/** Milliseconds between two messages: a screen reader that is interrupted reads none of them to its end. */
const PAUSE = 1500;

/** The region, to be put into the page once. */
export const liveRegion = h('div', { class: 'for-screen-readers', role: 'status', 'aria-live': 'polite' });
let waiting = null;
let timer = null;

/** Report a sentence. One that comes before the last could be read replaces the one that waits. */
export function announce(sentence) {
  waiting = sentence;
  timer ??= setTimeout(speak, 100);
}

function speak() {
  liveRegion.textContent = waiting;
  waiting = null;
  timer = setTimeout(() => {
    timer = null;
    if (waiting !== null) speak();
  }, PAUSE);
}
