// Decodes a ThumbHash (https://evanw.github.io/thumbhash/) into the pixels of a placeholder.

/** Pixels of the longer side: the placeholder is smooth, so that the browser can enlarge it. */
const SIDE = 24;
const FREQUENCIES = 8;
const quantised = (nibble) => nibble / 7.5 - 1;

/** `{width, height, data}` with at most 24 pixels a side, as RGBA, from a hash in base64. Null for an invalid hash. */
export function decode(text) {
  let hash;
  try {
    hash = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
  return hash.length < 5 ? null : paint(header(hash), hash);
}

function header(hash) {
  const color = hash[0] | (hash[1] << 8) | (hash[2] << 16);
  const shape = hash[3] | (hash[4] << 8);
  const hasAlpha = color >> 23 === 1;
  const sides = [shape & 7, hasAlpha ? 5 : 7];
  const [across, down] = shape >> 15 ? sides.reverse() : sides;
  return {
    hasAlpha,
    lightness: { mean: (color & 63) / 63, scale: ((color >> 18) & 31) / 31 },
    yellowBlue: { mean: ((color >> 6) & 63) / 31.5 - 1, scale: (((shape >> 3) & 63) / 63) * 1.25 },
    redGreen: { mean: ((color >> 12) & 63) / 31.5 - 1, scale: (((shape >> 9) & 63) / 63) * 1.25 },
    alpha: hasAlpha ? { mean: (hash[5] & 15) / 15, scale: (hash[5] >> 4) / 15 } : { mean: 1, scale: 0 },
    across: Math.max(3, across),
    down: Math.max(3, down),
    aspect: across / down,
  };
}

function paint(head, hash) {
  const coefficients = reader(hash, head.hasAlpha ? 6 : 5);
  const channels = [
    channel(head.lightness, head.across, head.down, coefficients),
    channel(head.yellowBlue, 3, 3, coefficients),
    channel(head.redGreen, 3, 3, coefficients),
    head.hasAlpha ? channel(head.alpha, 5, 5, coefficients) : { mean: 1, terms: [] },
  ];
  const width = Math.round(head.aspect > 1 ? SIDE : SIDE * head.aspect);
  const height = Math.round(head.aspect > 1 ? SIDE / head.aspect : SIDE);
  const waves = { x: cosines(width), y: cosines(height) };
  const data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const [l, p, q, a] = channels.map((each) => valueAt(each, waves, x, y));
      const blue = l - (2 / 3) * p;
      const red = (3 * l - blue + q) / 2;
      data.set([red * 255, (red - q) * 255, blue * 255, a * 255], at);
    }
  }
  return { width, height, data };
}

/** The cosines of each frequency at the middle of each pixel. */
function cosines(pixels) {
  const middles = Array.from({ length: pixels }, (_, pixel) => (Math.PI * (pixel + 0.5)) / pixels);
  return Array.from({ length: FREQUENCIES }, (_, frequency) => middles.map((middle) => Math.cos(middle * frequency)));
}

function reader(hash, start) {
  let index = 0;
  return () => {
    const byte = hash[start + (index >> 1)] ?? 0;
    return quantised((byte >> ((index++ & 1) << 2)) & 15);
  };
}

/** The terms of a channel's cosine series: those with `i * down < across * (down - j)`, without the mean. */
function channel({ mean, scale }, across, down, next) {
  const terms = [];
  for (let j = 0; j < down; j++) {
    for (let i = j ? 0 : 1; i * down < across * (down - j); i++) terms.push({ i, j, value: next() * scale });
  }
  return { mean, terms };
}

function valueAt({ mean, terms }, waves, x, y) {
  let sum = mean;
  for (const { i, j, value } of terms) sum += value * waves.x[i][x] * waves.y[j][y] * 2;
  return sum;
}
