// Puts the page together: header, gallery, viewer and queue, and what one of them means for the others.
import { liveRegion } from './announce.js';
import { getImage } from './api.js';
import { Deletions } from './deletions.js';
import { button, h } from './element.js';
import { bytes } from './format.js';
import { Gallery } from './gallery.js';
import { Header } from './header.js';
import { Images } from './images.js';
import { Intake } from './intake.js';
import { LiveEvents } from './live.js';
import { Queue } from './queue.js';
import { QueueView } from './queue_view.js';
import { typesInWords } from './reasons.js';
import { currentPlace, go, ownerKey } from './route.js';
import { urlOf } from './snippets.js';
import { Status } from './status.js';
import { copy, toasts } from './toast.js';
import { Viewer } from './viewer.js';
import { isolated, language, t } from './words.js';

/** Events of one moment beyond which the list is read again, instead of each image. */
const MANY_EVENTS = 100;
const READ_AT_ONCE = 3;
/** A row may be some milliseconds behind its event. Then it is read again, so often and after so many milliseconds. */
const BEHIND = { attempts: 5, pause: 400 };
/** Milliseconds for which the list waits for the stream, so that no event is lost between them. */
const STREAM_FIRST = 400;
/** Milliseconds for which the page waits for the limits of an upload. A gateway that hangs must not leave it blank. */
const STATUS_FIRST = 1500;

document.documentElement.lang = language;

let place = currentPlace();
let scrollTop = 0;
const images = new Images();
const live = new LiveEvents();
const status = new Status(live);
await Promise.race([status.read(), new Promise((resolve) => { setTimeout(resolve, STATUS_FIRST); })]);
const queue = new Queue(status);
const gallery = new Gallery(images, queue);
const viewer = new Viewer(images, queue, status);
const deletions = new Deletions(images);
const intake = new Intake(() => place.owner ? t('drop_for', { owner: isolated(ownerKey(place.owner)) }) : t('drop_here'));
const queueView = new QueueView(queue, status, (use) => intake.chooseOne(use));
const header = new Header({ status, onowner: openOwner, onupload: () => intake.choose() });

const dropLine = h('div', { class: 'drop-line' }, h('div', {},
  h('p', {}, `${t('drop_line')} `, button(t('choose_files'), () => intake.choose(), { class: 'link' }),
    ` ${t('or')} `, button(t('choose_folder'), () => intake.chooseFolder(), { class: 'link' }), '.'),
  h('p', { class: 'muted limits' }, t('limits', limitsInWords()))));
const empty = h('section', { class: 'empty', hidden: true });
const selection = h('div', { class: 'selection', role: 'toolbar', 'aria-label': t('gallery'), hidden: true });
const heading = h('h1', { class: 'for-screen-readers' }, t('gallery'));
const main = h('main', {}, h('div', { class: 'list' }, heading, dropLine, selection, empty, gallery.element), viewer.element);
document.body.append(h('a', { class: 'skip', href: '#gallery' }, t('skip')), header.element, main, queueView.element, toasts, liveRegion, intake.element);

function limitsInWords() {
  return { types: typesInWords(status.limits), size: bytes(status.limits.file_bytes) };
}

function drawEmpty() {
  const isEmpty = images.isLoaded && images.all.length === 0 && !images.hasMore && queue.entries.length === 0;
  if (empty.hidden !== isEmpty) return;
  empty.hidden = !isEmpty;
  dropLine.hidden = heading.hidden = isEmpty;
  if (!isEmpty) return;
  const query = place.owner ? `?${new URLSearchParams({ [`${place.owner.type}_id`]: place.owner.id })}` : '';
  const address = new URL(`images${query}`, document.baseURI).href;
  empty.replaceChildren(
    h('div', { class: 'sketch', 'aria-hidden': 'true' }, h('span', {}), h('span', {}), h('span', {})),
    h('h1', {}, t('empty_title', { sizes: status.sizes })), h('p', { class: 'muted' }, t('empty_text', limitsInWords())),
    button(t('empty_button'), () => intake.choose(), { class: 'primary' }),
    h('code', { dir: 'ltr', tabindex: 0 }, `curl -F image=@cat.jpg '${address}'`));
}

function drawSelection() {
  const { selected } = gallery;
  selection.hidden = selected.length === 0;
  if (selection.hidden) return;
  selection.replaceChildren(
    h('strong', {}, t('selected', { count: selected.length })),
    button(t('copy_links'), () => copy(selected.map((item) => urlOf(item.document)).join('\n'), t('links_copied', { count: selected.length }))),
    button(t('delete'), () => remove(selected), { class: 'danger' }),
    button(t('clear_selection'), () => { gallery.clearSelection(); gallery.focus(null); }));
}

async function openOwner(owner) {
  if (ownerKey(owner) === ownerKey(place.owner)) return;
  place = { owner, image: null };
  go(place);
  await showPlace();
}

async function showPlace() {
  header.setOwner(place.owner);
  if (!images.isLoaded || ownerKey(images.owner) !== ownerKey(place.owner)) await openList();
  showImage();
}

async function openList() {
  gallery.clearSelection();
  live.follow(place.owner);
  const isConnected = await connected();
  await images.open(place.owner);
  // An event between the list and a stream that opened later would be missed.
  if (!isConnected) live.on('state', () => images.reload(), { once: true });
}

function connected() {
  return new Promise((resolve) => {
    if (live.isConnected) resolve(true);
    live.on('state', () => live.isConnected && resolve(true));
    setTimeout(() => resolve(live.isConnected), STREAM_FIRST);
  });
}

function showImage() {
  const wasOpen = viewer.isOpen;
  if (place.image) {
    if (!wasOpen) scrollTop = scrollY;
    main.classList.add('viewing');
    viewer.open(place.image);
    scrollTo({ top: 0, behavior: 'instant' });
  } else if (wasOpen) {
    const id = viewer.id;
    viewer.close();
    main.classList.remove('viewing');
    scrollTo({ top: scrollTop, behavior: 'instant' });
    gallery.focus(id);
  }
  document.title = place.image ? `${images.get(place.image)?.document.file_name ?? t('viewer')} · imagepipe` : 'imagepipe';
}

function openImage(id, options) {
  place = { ...place, image: id };
  go(place, { state: { fromList: true }, ...options });
  showImage();
}

function closeImage() {
  // The list is the entry before, unless the page began with the image.
  if (history.state?.fromList) history.back();
  else openImage(null, { replace: true, state: null });
}

function remove(items) {
  const ids = new Set(items.map(({ id }) => id));
  if (place.image && ids.has(place.image)) closeImage();
  deletions.remove(items);
  gallery.clearSelection();
}

const wanted = new Map();
let reading = 0;

live.on('news', ({ type, event }) => {
  if (type === 'resync') images.reload();
  else if (type === 'image.removed') forget(event.image_id);
  else read(event.image_id, event.current?.revision ?? event.request?.revision);
});

function forget(id) {
  images.remove(id);
  queue.removed(id);
  viewer.removed(id);
}

/** Read the image of an event. Many at once, as after an import, are read with the list. */
function read(id, revision) {
  wanted.set(id, { revision, attempts: 0 });
  if (wanted.size > MANY_EVENTS) {
    wanted.clear();
    images.reload();
  } else while (reading < READ_AT_ONCE && wanted.size) readNext();
}

async function readNext() {
  const [id, what] = wanted.entries().next().value;
  wanted.delete(id);
  reading++;
  try {
    const found = await getImage(id);
    show(found);
    const isBehind = found.status === 'processing' && !found.variants.some(({ path }) => path.includes(what.revision));
    if (isBehind && what.attempts < BEHIND.attempts) setTimeout(() => readAgain(id, what), BEHIND.pause);
  } catch (problem) {
    if (problem.status === 404) forget(id);
    else if (what.attempts < BEHIND.attempts) setTimeout(() => readAgain(id, what), (problem.retryAfter ?? 2) * 1000);
  }
  reading--;
  if (wanted.size && reading < READ_AT_ONCE) readNext();
}

function readAgain(id, what) {
  wanted.set(id, { ...what, attempts: what.attempts + 1 });
  if (reading < READ_AT_ONCE) readNext();
}

function show(document_, preview) {
  images.put(document_, preview);
  viewer.take(document_);
  queue.settle(document_);
}

images.on('change', () => {
  header.setCount(images.all.length, images.hasMore, images.isLoaded);
  drawEmpty();
  drawSelection();
});
queue.on('change', drawEmpty);
queue.on('held', () => status.read());
queue.on('accepted', ({ entry, document: found }) => show(found, entry.target ? null : entry.preview));
queue.on('read', (found) => show(found));
intake.on('files', (files) => {
  queueView.open();
  queue.add(files, place.owner);
});
live.on('state', () => gallery.setNote(`${t('newest_first')}, ${live.isConnected ? t('live') : t('not_live')}`));
status.on('change', () => {
  dropLine.querySelector('.limits').textContent = t('limits', limitsInWords());
  if (images.problem && status.unavailable.length === 0) images.retry();
});
for (const source of [gallery, viewer]) {
  source.on('replace', (item) => intake.chooseOne((file) => {
    queueView.open();
    queue.add([file], null, item.id);
  }));
  source.on('remove', (items) => remove([items].flat()));
}
gallery.on('open', (item) => openImage(item.id));
gallery.on('selection', drawSelection);
viewer.on('close', closeImage);
viewer.on('move', (id) => openImage(id, { replace: true, state: history.state }));
addEventListener('popstate', () => {
  place = currentPlace();
  showPlace();
});

go(place, { replace: true, state: history.state });
gallery.setNote(`${t('newest_first')}, ${t('not_live')}`);
await Promise.all([queue.restore(), showPlace()]);
