// Writes what a developer pastes: an address, Markdown, an `img` with its sizes, and a `picture`.

const attribute = (text) => text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');

const bracketed = (text) => text.replace(/[\\[\]]/g, '\\$&');

/** The name without its extension, as the alternative text to begin with. */
const alternative = (document) => (document.file_name ?? '').replace(/\.[^.]*$/, '');

/** The variant that pages show: the largest below the full size, if there is one. */
const shown = ({ variants }) => variants[1] ?? variants[0];

/** The address of the full variant, or of the original while there is none. */
export function urlOf(document) {
  return document.variants[0]?.url ?? document.original?.url ?? '';
}

export function markdown(document) {
  return `![${bracketed(alternative(document))}](${shown(document)?.url ?? urlOf(document)})`;
}

export function imgTag(document) {
  const { original, srcset } = document;
  const { url, width, height } = shown(document) ?? original;
  const sizes = srcset ? ` srcset="${attribute(srcset)}" sizes="100vw"` : '';
  return `<img src="${attribute(url)}"${sizes} width="${width}" height="${height}" alt="${attribute(alternative(document))}">`;
}

/** A `picture` with the variants, and the original for browsers that do not know their type. */
export function pictureTag(document) {
  const { original, srcset, variants } = document;
  if (!srcset) return imgTag(document);
  return [
    '<picture>',
    `  <source type="${variants[0].content_type}" srcset="${attribute(srcset)}" sizes="100vw">`,
    `  <img src="${attribute(original.url)}" width="${variants[0].width}" height="${variants[0].height}" alt="${attribute(alternative(document))}">`,
    '</picture>',
  ].join('\n');
}
