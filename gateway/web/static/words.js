// Chooses the language of the page by the browser, and writes its sentences.

const LANGUAGES = ['en', 'de'];

/** The language of the page: the first of the browser's languages that it has. */
export const language =
  navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => LANGUAGES.includes(tag)) ?? 'en';

/** The browser's own tag of that language, for dates and numbers: `en-GB` writes them differently than `en-US`. */
export const locale = navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? language;

const { default: words } = await import(`./words_${language}.js`);
const numbers = words.numbers.split(' ');

/**
 * The sentence of a key; null if the page has none. In its words `{count}` is a parameter, `{count#}` the same as a
 * numeral in words, and `[count?image|images]` has the words for one and those for any other number.
 */
export function maybe(key, parameters = {}) {
  return words[key]
    ?.replace(/\[(\w+)\?([^|]*)\|([^\]]*)\]/g, (_, name, one, other) => (parameters[name] === 1 ? one : other))
    .replace(/\{(\w+)(#?)\}/g, (_, name, inWords) => (inWords && numbers[parameters[name]]) || parameters[name]) ?? null;
}

export function t(key, parameters) {
  const sentence = maybe(key, parameters);
  if (sentence === null) throw new Error(`no words for ${key}`);
  return sentence;
}

export function isolated(text) {
  return `\u2068${text}\u2069`;
}
