// Finds out what a file is from its first bytes, as the gateway does, so that a wrong type is reported before sending.

const SIGNATURES = [
  ['image/png', 0, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ['image/jpeg', 0, [0xff, 0xd8, 0xff]],
  ['GIF', 0, 'GIF8'],
  ['BMP', 0, 'BM'],
  ['TIFF', 0, [0x49, 0x49, 0x2a, 0x00]],
  ['TIFF', 0, [0x4d, 0x4d, 0x00, 0x2a]],
  ['PDF', 0, '%PDF'],
  ['ZIP', 0, [0x50, 0x4b, 0x03, 0x04]],
  ['SVG', 0, '<svg'],
];
/** Brands of the ISO base media file format (offset 8). */
const BRANDS = { avif: 'AVIF', avis: 'AVIF', heic: 'HEIC', heix: 'HEIC', mif1: 'HEIC', msf1: 'HEIC' };
const PICTURE_NAME = /\.(jpe?g|png|webp|gif|heic|avif|bmp|tiff?)$/i;
const READ = 64;

/**
 * The type of a file: a content type, or the name of another kind (`GIF`, `HEIC`, `text`, `unknown`); null if the file
 * has no bytes. Raises the browser's error if the file cannot be read.
 */
export async function fileKind(file) {
  const head = new Uint8Array(await file.slice(0, READ).arrayBuffer());
  if (head.length === 0) return null;
  const found = SIGNATURES.find(([, offset, signature]) => startsWith(head, offset, signature));
  if (found) return found[0];
  if (startsWith(head, 0, 'RIFF') && startsWith(head, 8, 'WEBP')) return 'image/webp';
  if (startsWith(head, 4, 'ftyp')) return BRANDS[ascii(head.subarray(8, 12))] ?? 'MP4';
  return head.every((byte) => byte >= 32 || (byte >= 9 && byte <= 13)) ? 'text' : 'unknown';
}

/** The extension of a name that is that of a picture, with its dot; null otherwise. */
export function pictureExtension(fileName) {
  return PICTURE_NAME.exec(fileName)?.[0] ?? null;
}

function startsWith(head, offset, signature) {
  const expected = typeof signature === 'string' ? [...signature].map((c) => c.charCodeAt(0)) : signature;
  return expected.every((byte, index) => head[offset + index] === byte);
}

function ascii(array) {
  return String.fromCharCode(...array);
}
