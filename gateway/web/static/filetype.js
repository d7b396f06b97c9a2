// Finds out what a file is from its first bytes, as the gateway does, so that a wrong type is reported before sending.

/** What files of each kind begin with, read as Latin-1. The names of ISO base media files (AVIF, HEIC) are at offset 8. */
const KINDS = [
  ['image/png', /^\x89PNG\r\n\x1a\n/], ['image/jpeg', /^\xff\xd8\xff/], ['image/webp', /^RIFF.{4}WEBP/s],
  ['GIF', /^GIF8/], ['BMP', /^BM/], ['TIFF', /^(II\*\0|MM\0\*)/], ['PDF', /^%PDF/], ['ZIP', /^PK\x03\x04/], ['SVG', /^<svg/],
  ['AVIF', /^.{4}ftypavi[fs]/s], ['HEIC', /^.{4}ftyp(hei[cx]|mif1|msf1)/s], ['MP4', /^.{4}ftyp/s], ['text', /^[\t-\r -\xff]+$/],
];
const PICTURE_NAME = /\.(jpe?g|png|webp|gif|heic|avif|bmp|tiff?)$/i;
const READ = 64;

/**
 * The type of a file: a content type, or the name of another kind (`GIF`, `HEIC`, `text`, `unknown`); null if the file
 * has no bytes. Raises the browser's error if the file cannot be read.
 */
export async function fileKind(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, READ).arrayBuffer()));
  if (head === '') return null;
  return KINDS.find(([, start]) => start.test(head))?.[0] ?? 'unknown';
}

/** The extension of a name that is that of a picture, with its dot; null otherwise. */
export function pictureExtension(fileName) {
  return PICTURE_NAME.exec(fileName)?.[0] ?? null;
}
