// Makes one tile of the gallery: a picture, a picture on its way, or a failed one.
import { button, h, name, setAttribute } from './element.js';
import { dateTime } from './format.js';
import { placeholder } from './placeholder.js';
import { reason } from './reasons.js';
import { t } from './words.js';

/**
 * The element of an item. `actions` has `open(item)`, `select(item, event)`, `replace(item)` and `remove(item)`;
 * `address` is the link of the item.
 */
export function tileOf(item, address, isSelected, actions) {
  const fileName = item.document.file_name ?? item.id;
  const label = [fileName, t(`state_${item.state}`), dateTime(item.date)].join(', ');
  const link = h('a', { class: 'picture', href: address, 'aria-label': label, 'aria-describedby': 'gallery-keys', tabindex: -1,
    onclick: (event) => actions.open(item, event) });
  link.append(...picture(item));
  const box = h('input', { type: 'checkbox', tabindex: -1, 'aria-label': t('select', { name: fileName }),
    onclick: (event) => actions.select(item, event) });
  box.checked = isSelected;
  const tile = h('div', { class: `tile ${item.state}`, role: 'listitem' }, link, h('label', { class: 'select' }, box));
  if (item.state === 'failed') tile.append(failure(item, fileName, actions));
  else if (item.state !== 'ready') tile.append(h('span', { class: 'chip' }, t(`state_${item.state}`)));
  return tile;
}

function picture(item) {
  const { variants, srcset, dominant_color: color } = item.document;
  if (variants.length === 0) return item.preview && item.state !== 'failed' ? [preview(item.preview)] : [];
  const blurred = placeholder(item.document);
  const image = h('img', { alt: '', decoding: 'async', draggable: 'false', class: 'loading' });
  // The link is filled by the colour until the canvas is drawn, and where the picture does not reach.
  const appear = () => image.classList.remove('loading');
  image.addEventListener('load', appear);
  image.addEventListener('error', () => image.remove());
  image.srcset = srcset;
  image.src = variants.at(-1).url;
  if (image.complete) appear();
  if (color && !blurred) image.style.backgroundColor = color;
  return [blurred, image].filter(Boolean);
}

function preview(url) {
  return h('img', { class: 'preview', src: url, alt: '', decoding: 'async', draggable: 'false' });
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
    const percent = Math.floor((entry.sent / entry.size) * 100);
    chip.textContent = entry.state === 'sending' ? t('uploading', { percent }) : t('waiting');
    bar.firstChild.style.width = entry.state === 'sending' ? `${percent}%` : 0;
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
