// Makes one tile of the gallery: a picture, a picture on its way, or a failed one.
import { button, h, name, setAttribute } from './element.js';
import { dateTime, percent } from './format.js';
import { placeholder } from './placeholder.js';
import { reason } from './reasons.js';
import { t } from './words.js';

/** Of each picture: the link around it has its name, and is what is dragged. */
const PLAIN = { alt: '', decoding: 'async', draggable: 'false' };

/**
 * The element of an item. `actions` has `open(item)`, `select(item, event)`, `replace(item)` and `remove(item)`;
 * `address` is the link of the item.
 */
export function tileOf(item, address, isSelected, actions) {
  const fileName = item.document.file_name ?? item.id;
  const label = [fileName, t(`state_${item.state}`), dateTime(item.date)].join(', ');
  const link = h('a', { class: 'picture', href: address, 'aria-label': label, 'aria-describedby': 'gallery-keys', tabindex: -1,
    onclick: (event) => actions.open(item, event) });
  showPicture(link, item);
  const box = h('input', { type: 'checkbox', tabindex: -1, 'aria-label': t('select', { name: fileName }),
    onclick: (event) => actions.select(item, event) });
  box.checked = isSelected;
  const tile = h('div', { class: `tile ${item.state}`, role: 'listitem' }, link, h('label', { class: 'select' }, box));
  if (item.state === 'failed') tile.append(failure(item, fileName, actions));
  else if (item.state !== 'ready') tile.append(h('span', { class: 'chip' }, t(`state_${item.state}`)));
  return tile;
}

function showPicture(link, item) {
  const { variants, srcset, dominant_color: color } = item.document;
  if (variants.length === 0) {
    if (item.preview && item.state !== 'failed') link.append(preview(item.preview));
    return;
  }
  const blurred = placeholder(item.document);
  link.style.backgroundColor = color ?? '';
  if (blurred) link.style.backgroundImage = `url("${blurred}")`;
  const appear = () => image.classList.remove('loading');
  const image = h('img', { ...PLAIN, class: 'loading', onload: appear, onerror: () => image.remove(), srcset, src: variants.at(-1).url });
  if (image.complete) appear();
  link.append(image);
}

function preview(url) {
  return h('img', { ...PLAIN, class: 'preview', src: url });
}

function failure(item, fileName, actions) {
  const error = item.document.error;
  return h('div', { class: 'failure' },
    h('strong', {}, name(fileName)),
    h('span', {}, error ? reason(error) : ''),
    h('span', { class: 'actions' },
      button(t('replace'), () => actions.replace(item), { class: 'link', tabindex: -1 }),
      button(t('delete'), () => actions.remove(item), { class: 'link', tabindex: -1 })));
}

/** The element of a file that is being sent: its preview under a line of progress. */
export function sendingTile(entry) {
  const bar = h('span', { class: 'bar' }, h('span', {}));
  const chip = h('span', { class: 'chip' });
  const tile = h('div', { class: 'tile sending', role: 'listitem' },
    h('span', { class: 'picture', role: 'img', 'aria-label': entry.name }, preview(entry.preview)), chip, bar);
  tile.refresh = () => {
    const isSending = entry.state === 'sending';
    const share = isSending ? percent(entry.sent / entry.size) : 0;
    chip.textContent = isSending ? t('uploading', { percent: share }) : t('waiting');
    bar.firstChild.style.width = `${share}%`;
  };
  tile.refresh();
  return tile;
}

/** Position and size in pixels, without an inline style in markup. */
export function position(element, { x, y, width, height }) {
  element.style.transform = `translate(${x}px, ${y}px)`;
  element.style.width = `${width}px`;
  element.style.height = `${height}px`;
  const image = element.querySelector('img:not(.preview)');
  if (image) setAttribute(image, 'sizes', `${Math.ceil(width)}px`);
}
