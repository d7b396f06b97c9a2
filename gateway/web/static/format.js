// Writes bytes, numbers, days and times in the language of the page.
import { locale, t } from './words.js';

const KB = 1024;
const MB = KB * KB;
const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat(locale, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const moment = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' });
const choices = new Intl.ListFormat(locale, { type: 'disjunction' });
const clock = new Intl.DateTimeFormat(locale, { timeStyle: 'short' });

/** Bytes as people read them, in steps of 1,024 as the limit of an upload is. */
export function bytes(count) {
  if (count >= MB) return `${(count >= 100 * MB ? whole : tenths).format(count / MB)} MB`;
  if (count >= KB) return `${whole.format(count / KB)} KB`;
  return `${whole.format(count)} B`;
}

export const number = (value) => whole.format(value);

/** Percent without decimals, from a share between 0 and 1. It never rounds up to 100. */
export const percent = (share) => Math.floor(Math.min(Math.max(share, 0), 1) * 100);

export const dimensions = ({ width, height }) => `${width} × ${height}`;

/** The local day, as `2026-11-27`. */
export const dayKey = (date) => new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 10);

export function dayName(key, now = new Date()) {
  const before = new Date(now);
  before.setDate(before.getDate() - 1);
  if (key === dayKey(now)) return t('today');
  if (key === dayKey(before)) return t('yesterday');
  return day.format(new Date(`${key}T12:00`));
}

export const dateTime = (date) => moment.format(date);
export const time = (date) => clock.format(date);

export const alternatives = (words) => choices.format(words);

export function typeName(contentType) {
  const kind = contentType.split('/')[1] ?? contentType;
  return kind === 'webp' ? 'WebP' : kind.toUpperCase();
}
