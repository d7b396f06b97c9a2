// Places the pictures of the gallery: rows of equal height, or two columns on a phone. Computes, and touches no element.

const GAP = 6;
const ROW_HEIGHT = 190;
/** Width of the page in pixels below which there are two columns. */
const NARROW = 640;
const COLUMNS = 2;
const HEADING = 52;
/** Wider or higher pictures keep their aspect inside of a box of this one. */
const ASPECTS = { least: 0.5, most: 3.2 };

/**
 * The places of the items, which have `key`, `aspect` (width by height) and `day`. Returns `{tiles, headings, height}`:
 * tiles `{key, x, y, width, height}` in the order of the items, headings `{day, y}`.
 */
export function place(items, width) {
  const tiles = [];
  const headings = [];
  const put = width < NARROW ? putColumns : putRows;
  let y = 0;
  for (const section of byDay(items)) {
    headings.push({ day: section.day, y });
    y = put(section.items, width, y + HEADING, tiles) + GAP;
  }
  return { tiles, headings, height: y };
}

/** The first index whose tile may reach below `y`. Tiles are ordered by their upper edge. */
export function firstBelow(tiles, y) {
  let low = 0;
  let high = tiles.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tiles[middle].y < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

function byDay(items) {
  const sections = [];
  for (const item of items) {
    if (sections.at(-1)?.day !== item.day) sections.push({ day: item.day, items: [] });
    sections.at(-1).items.push(item);
  }
  return sections;
}

const boxAspect = (item) => Math.min(Math.max(item.aspect, ASPECTS.least), ASPECTS.most);

function putRows(items, width, top, tiles) {
  let y = top;
  let row = [];
  let aspects = 0;
  for (const item of items) {
    row.push(item);
    aspects += boxAspect(item);
    const height = (width - GAP * (row.length - 1)) / aspects;
    if (height <= ROW_HEIGHT) {
      putRow(row, y, height, tiles);
      y += height + GAP;
      row = [];
      aspects = 0;
    }
  }
  if (row.length === 0) return y;
  // The last row is not stretched: one picture would fill the page.
  putRow(row, y, ROW_HEIGHT, tiles);
  return y + ROW_HEIGHT + GAP;
}

function putRow(row, y, height, tiles) {
  let x = 0;
  for (const item of row) {
    const width = height * boxAspect(item);
    tiles.push({ key: item.key, x, y, width, height });
    x += width + GAP;
  }
}

function putColumns(items, width, top, tiles) {
  const columnWidth = (width - GAP * (COLUMNS - 1)) / COLUMNS;
  const bottoms = Array(COLUMNS).fill(top);
  for (const item of items) {
    const column = bottoms.indexOf(Math.min(...bottoms));
    const height = columnWidth / boxAspect(item);
    tiles.push({ key: item.key, x: column * (columnWidth + GAP), y: bottoms[column], width: columnWidth, height });
    bottoms[column] += height + GAP;
  }
  return Math.max(...bottoms);
}
