// Chooses the language of the page by the browser, and returns its words.

const LANGUAGES = ['en', 'de'];

/** The language of the page: the first of the browser's languages that it has. */
export const language =
  navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => LANGUAGES.includes(tag)) ?? 'en';

/** The browser's own tag of that language, for dates and numbers: `en-GB` writes them differently than `en-US`. */
export const locale = navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? language;

const { default: words } = await import(`./words_${language}.js`);

export function t(key, parameters = {}) {
  const found = words[key];
  if (found === undefined) throw new Error(`no words for ${key}`);
  return typeof found === 'function' ? found(parameters) : found;
}

/** The same, or null if the page has no words for the key. */
export function maybe(key, parameters = {}) {
  return words[key] === undefined ? null : t(key, parameters);
}

export function isolated(text) {
  return `\u2068${text}\u2069`;
}
