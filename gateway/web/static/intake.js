// Accepts files from everywhere: dropped on the page, pasted, chosen, or from folders.
import { h } from './element.js';
import { Emitter } from './emitter.js';
import { pictureExtension } from './filetype.js';
import { toast } from './toast.js';
import { t } from './words.js';

/** Events: `files` with a list of files in `detail`. */
export class Intake extends Emitter {
  #one = null;
  #depth = 0;
  #files = input({ multiple: true });
  #folder = input({ webkitdirectory: true });
  #single = input({});
  #overlay = h('div', { class: 'drop', hidden: true, 'aria-hidden': 'true' }, h('p', {}));

  /** `hint` returns the sentence that is shown while files are dragged over the page. */
  constructor(hint) {
    super();
    this.element = h('div', {}, this.#files, this.#folder, this.#single, this.#overlay);
    this.#files.onchange = () => this.#chosen(this.#files);
    this.#folder.onchange = () => this.#chosen(this.#folder, true);
    this.#single.onchange = () => this.#chosenOne();
    addEventListener('dragenter', (event) => this.#drag(event, 1, hint));
    addEventListener('dragleave', (event) => this.#drag(event, -1, hint));
    addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault());
    addEventListener('drop', (event) => this.#dropped(event));
    addEventListener('paste', (event) => this.#pasted(event));
  }

  choose() {
    this.#files.click();
  }

  chooseFolder() {
    this.#folder.click();
  }

  chooseOne(use) {
    this.#one = use;
    this.#single.click();
  }

  #give(files) {
    if (files.length) this.emit('files', files);
  }

  #chosen(element, isFolder = false) {
    const files = [...element.files];
    element.value = '';
    this.#give(isFolder ? pictures(files) : files);
  }

  #chosenOne() {
    const [file] = this.#single.files;
    this.#single.value = '';
    if (file) this.#one(file);
  }

  #drag(event, step, hint) {
    if (!hasFiles(event)) return;
    event.preventDefault();
    this.#depth = Math.max(0, this.#depth + step);
    this.#overlay.hidden = this.#depth === 0;
    this.#overlay.firstChild.textContent = hint();
  }

  async #dropped(event) {
    if (!hasFiles(event)) return;
    event.preventDefault();
    this.#depth = 0;
    this.#overlay.hidden = true;
    // Entries must be read before the event ends; the files of folders come later.
    const entries = [...event.dataTransfer.items].filter((each) => each.kind === 'file')
      .map((each) => ({ entry: each.webkitGetAsEntry?.(), file: each.getAsFile() }));
    const files = [];
    const inFolders = [];
    for (const { entry, file } of entries) {
      if (entry?.isDirectory) inFolders.push(...(await filesOf(entry)));
      else if (file) files.push(file);
    }
    this.#give([...files, ...pictures(inFolders)]);
  }

  #pasted(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    this.#give(files.map(named));
  }
}

function input(properties) {
  return h('input', { type: 'file', accept: 'image/*', hidden: true, ...properties });
}

const hasFiles = (event) => event.dataTransfer?.types.includes('Files');

function pictures(files) {
  const found = files.filter((file) => pictureExtension(file.name));
  const others = files.filter((file) => !pictureExtension(file.name) && !file.name.startsWith('.'));
  if (others.length) toast(t('left_out', { count: others.length }));
  return found;
}

async function filesOf(directory) {
  const reader = directory.createReader();
  const files = [];
  for (;;) {
    const entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (entries.length === 0) return files;
    for (const entry of entries) {
      files.push(...(entry.isDirectory ? await filesOf(entry) : [await new Promise((resolve, reject) => { entry.file(resolve, reject); })]));
    }
  }
}

/** A pasted picture has no name of its own: it gets the time. */
function named(file) {
  if (!/^image\.\w+$/.test(file.name)) return file;
  const stamp = new Date().toISOString().slice(0, 19).replace(/[T:]/g, '-');
  return new File([file], `pasted-${stamp}.${file.name.split('.')[1]}`, { type: file.type });
}
