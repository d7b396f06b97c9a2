// Draws the placeholder of a picture: its ThumbHash, or its dominant colour.
import { h } from './element.js';
import { decode } from './thumbhash.js';

/** Decoded placeholders, so that scrolling back decodes none again. */
const KEPT = 600;
const decoded = new Map();

function pixels(hash) {
  if (!decoded.has(hash)) {
    if (decoded.size >= KEPT) decoded.delete(decoded.keys().next().value);
    decoded.set(hash, decode(hash));
  }
  return decoded.get(hash);
}

/** A canvas that fills its box, null if the document has no placeholder. */
export function placeholder(document_) {
  const found = document_.thumbhash ? pixels(document_.thumbhash) : null;
  if (!found) return null;
  const canvas = h('canvas', { class: 'placeholder', 'aria-hidden': 'true', width: found.width, height: found.height });
  canvas.getContext('2d').putImageData(new ImageData(found.data, found.width, found.height), 0, 0);
  return canvas;
}
