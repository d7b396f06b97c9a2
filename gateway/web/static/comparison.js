// Shows the original and a variant in the same place, under one slider.
import { h, setAttribute } from './element.js';
import { bytes, typeName } from './format.js';
import { placeholder } from './placeholder.js';
import { t } from './words.js';

export class Comparison {
  #original = h('img', { alt: '', class: 'original', onload: appear, onerror: () => this.#alone() });
  #variant = h('img', { alt: '', class: 'variant', onload: appear });
  #slider = h('input', { type: 'range', class: 'slider', 'aria-label': t('compare'), oninput: () => this.#move() });
  #left = h('span', { class: 'chip left' });
  #right = h('span', { class: 'chip right' });
  #blurred = h('img', { alt: '', class: 'placeholder' });
  #name = '';

  constructor() {
    this.element = h('div', { class: 'stage' }, this.#blurred, this.#original, this.#variant, this.#slider,
      h('span', { class: 'handle', 'aria-hidden': 'true' }, h('span', {}, '⇔')), this.#left, this.#right);
    this.#move();
  }

  /** Show an image. Without a variant the original is alone, without both the stage is empty. */
  show(document_, variant) {
    const { original } = document_;
    this.#name = variant?.name ?? t('original');
    this.element.classList.toggle('single', !variant || !original);
    load(this.#original, original?.url);
    load(this.#variant, variant?.url);
    this.#original.alt = document_.file_name ?? '';
    this.#left.textContent = label(t('original'), original);
    this.#right.textContent = label(variant?.name, variant);
    const { width, height } = variant ?? original ?? {};
    this.#blurred.style.setProperty('--aspect', width / height);
    setAttribute(this.#blurred, 'src', placeholder(document_));
    this.#blurred.hidden = !this.#blurred.src;
    this.#move();
  }

  #alone() {
    this.element.classList.add('single');
    this.#left.textContent = t('no_original');
  }

  #move() {
    const percent = Number(this.#slider.value);
    this.element.style.setProperty('--at', percent / 100);
    setAttribute(this.#slider, 'aria-valuetext', t('compare_value', { percent, variant: this.#name }));
  }
}

function appear({ target }) {
  target.classList.remove('loading');
}

const label = (name, file) => (file ? `${name} · ${typeName(file.content_type)} ${bytes(file.size)}` : '');

function load(image, url) {
  image.hidden = !url;
  if (!url || image.getAttribute('src') === url) return;
  image.classList.add('loading');
  image.src = url;
}
