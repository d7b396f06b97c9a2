// Makes the placeholder of a picture: a small image from its ThumbHash.
import { decode } from './thumbhash.js';

/** Placeholders that are kept, so that scrolling back decodes none again. */
const KEPT = 600;
const HEAD = 122;
const urls = new Map();

/**
 * The URL of a document's placeholder; null if it has none. It is an image, because the compositor gives each canvas a
 * layer of its own: with a canvas in each tile a frame of scrolling took twice as long.
 */
export function placeholder({ thumbhash }) {
  if (!thumbhash) return null;
  if (!urls.has(thumbhash)) {
    if (urls.size >= KEPT) forgetOldest();
    const pixels = decode(thumbhash);
    urls.set(thumbhash, pixels && URL.createObjectURL(bitmap(pixels)));
  }
  return urls.get(thumbhash);
}

function forgetOldest() {
  const [hash, url] = urls.entries().next().value;
  if (url) URL.revokeObjectURL(url);
  urls.delete(hash);
}

/** Pixels as a BMP with a BITMAPV4HEADER, the version with masks for the four channels. */
function bitmap({ width, height, data }) {
  const head = new DataView(new ArrayBuffer(HEAD));
  head.setUint16(0, 0x424d);
  const words = { 2: HEAD + data.length, 10: HEAD, 14: 108, 18: width, 22: -height, 26: 1 | (32 << 16), 30: 3, 34: data.length,
    54: 0xff, 58: 0xff00, 62: 0xff0000, 66: 0xff000000, 70: 0x73524742 };
  for (const [at, value] of Object.entries(words)) head.setUint32(Number(at), value, true);
  return new Blob([head, data], { type: 'image/bmp' });
}
