// Switches between light and dark; without a choice the page follows the system.
import { button, outline } from './element.js';
import { t } from './words.js';

const REMEMBERED = 'imagepipe.theme';
const dark = matchMedia('(prefers-color-scheme: dark)');

function remembered() {
  try {
    return localStorage.getItem(REMEMBERED);
  } catch {
    return null;
  }
}

function apply(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

export function themeButton() {
  apply(remembered());
  const label = t('theme');
  return button(outline('M12 3a9 9 0 1 0 0 18z', 'M12 3a9 9 0 0 1 0 18'), toggle, { class: 'square', 'aria-label': label, title: label });
}

function toggle() {
  const shown = document.documentElement.dataset.theme ?? (dark.matches ? 'dark' : 'light');
  const theme = shown === 'dark' ? 'light' : 'dark';
  apply(theme);
  try {
    localStorage.setItem(REMEMBERED, theme);
  } catch {
    // The choice lasts as long as the page.
  }
}
