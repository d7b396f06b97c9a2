// Shows the original and a variant in the same place, under one slider.
import { h, setAttribute } from './element.js';
import { bytes, typeName } from './format.js';
import { placeholder } from './placeholder.js';
import { t } from './words.js';

const START = 50;

export class Comparison {
  #original = h('img', { alt: '', class: 'original', draggable: 'false' });
  #variant = h('img', { alt: '', class: 'variant', draggable: 'false' });
  #slider = h('input', { type: 'range', min: 0, max: 100, value: START, class: 'slider', 'aria-label': t('compare') });
  #left = h('span', { class: 'chip left' });
  #right = h('span', { class: 'chip right' });
  #blurred = null;
  #name = '';

  constructor() {
    this.element = h('div', { class: 'stage' }, this.#original, this.#variant, this.#slider,
      h('span', { class: 'handle', 'aria-hidden': 'true' }, h('span', {}, '⇔')), this.#left, this.#right);
    this.#slider.addEventListener('input', () => this.#move());
    this.#original.addEventListener('error', () => this.#single(t('no_original')));
    for (const image of [this.#original, this.#variant]) image.addEventListener('load', () => image.classList.remove('loading'));
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
    this.#left.textContent = original ? `${t('original')} · ${typeName(original.content_type)} ${bytes(original.size)}` : '';
    this.#right.textContent = variant ? `${variant.name} · ${typeName(variant.content_type)} ${bytes(variant.size)}` : '';
    this.#blurred?.remove();
    const blurred = placeholder(document_);
    this.#blurred = blurred && h('img', { src: blurred, alt: '', class: 'placeholder' });
    if (blurred) {
      const { width, height } = variant ?? original;
      this.#blurred.style.setProperty('--aspect', width / height);
      this.element.prepend(this.#blurred);
    }
    this.#move();
  }

  #move() {
    const percent = Number(this.#slider.value);
    this.element.style.setProperty('--at', percent / 100);
    setAttribute(this.#slider, 'aria-valuetext', t('compare_value', { percent, variant: this.#name }));
  }

  #single(label) {
    this.element.classList.add('single');
    this.#left.textContent = label;
  }
}

function load(image, url) {
  image.hidden = !url;
  if (!url || image.getAttribute('src') === url) return;
  image.classList.add('loading');
  image.src = url;
}
