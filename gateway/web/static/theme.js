// Switches between light and dark; without a choice the page follows the system.
import { button, outline } from './element.js';
import { recall, remember } from './memory.js';
import { t } from './words.js';

const dark = matchMedia('(prefers-color-scheme: dark)');
const { dataset } = document.documentElement;

export function themeButton() {
  dataset.theme = recall('theme') ?? '';
  const label = t('theme');
  return button(outline('M12 3a9 9 0 1 0 0 18z', 'M12 3a9 9 0 0 1 0 18'), toggle, { class: 'square', 'aria-label': label, title: label });
}

function toggle() {
  const shown = dataset.theme || (dark.matches ? 'dark' : 'light');
  dataset.theme = shown === 'dark' ? 'light' : 'dark';
  remember('theme', dataset.theme);
}
