// Makes a photo smaller than a limit in the browser, by a canvas: first by quality, then by fewer pixels.

const QUALITIES = [0.92, 0.85, 0.78];
/** Pixels of a side that every browser's canvas can have. */
const LONGEST_SIDE = 8192;

/**
 * A JPEG or WebP of the same picture with at most `limits.file_bytes`. Its orientation is applied, and its metadata is
 * left out. Raises an error if the browser cannot decode the file.
 */
export async function shrink(file, kind, limits) {
  const bitmap = await createImageBitmap(file, { imageOrientation: 'from-image' });
  try {
    // A PNG or a WebP may be transparent, which JPEG is not.
    const type = kind === 'image/jpeg' ? 'image/jpeg' : 'image/webp';
    return await fitting(bitmap, type, limits);
  } finally {
    bitmap.close();
  }
}

async function fitting(bitmap, type, limits) {
  const longest = Math.min(limits.side, LONGEST_SIDE);
  let scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height),
    Math.sqrt(limits.pixels / (bitmap.width * bitmap.height)));
  for (;;) {
    const canvas = drawn(bitmap, scale);
    let smallest = null;
    for (const quality of QUALITIES) {
      smallest = await encoded(canvas, type, quality);
      if (smallest.size <= limits.file_bytes) return smallest;
    }
    // Bytes grow about as pixels do. A tenth less than that reaches the limit in one or two steps.
    scale *= Math.min(0.9, Math.sqrt(limits.file_bytes / smallest.size) * 0.95);
  }
}

function drawn(bitmap, scale) {
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
  canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

function encoded(canvas, type, quality) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('the canvas cannot be encoded'))), type, quality);
  });
}

/** The name of a shrunk file: that of the original with the extension of its new type. */
export function shrunkName(name, type) {
  const extension = type === 'image/jpeg' ? 'jpg' : type.split('/')[1];
  const [, stem, old] = /^(.*?)(\.[^.]*)?$/s.exec(name);
  return type === 'image/jpeg' && /^\.jpe?g$/i.test(old ?? '') ? name : `${stem}.${extension}`;
}
