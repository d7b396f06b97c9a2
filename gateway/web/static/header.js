// The header: name, owner, number of images, state of the system, theme and the button to upload.
import { button, h, setAttribute } from './element.js';
import { number } from './format.js';
import { isOwner } from './route.js';
import { themeButton } from './theme.js';
import { t } from './words.js';

const TEXT = { size: 6, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none' };

/** The header. `onowner` gets another owner, null for all images. */
export class Header {
  #type = h('input', { ...TEXT, id: 'owner-type', 'aria-label': t('owner_type'), value: 'user', maxlength: 32 });
  #id = h('input', { ...TEXT, id: 'owner-id', 'aria-label': t('owner_id'), placeholder: t('all'), maxlength: 128, dir: 'auto' });
  #count = h('span', { class: 'muted count' });
  #onowner;

  constructor({ status, onowner, onupload }) {
    this.#onowner = onowner;
    const owner = h('div', { class: 'owner', role: 'group', 'aria-label': t('owner') }, this.#type, this.#id);
    owner.addEventListener('change', () => this.#commit());
    this.element = h('header', { class: 'head' },
      h('a', { class: 'brand', href: './' }, 'image', h('span', {}, 'pipe')), owner, this.#count, h('span', { class: 'grow' }),
      status.element, themeButton(), button(t('upload'), onupload, { class: 'primary' }));
  }

  setOwner(owner) {
    if (owner) this.#type.value = owner.type;
    this.#id.value = owner?.id ?? '';
    this.#check(true);
  }

  setCount(count, hasMore, isLoaded) {
    this.#count.textContent = isLoaded ? t('count', { count: count === 1 ? 1 : number(count), more: hasMore ? '+' : '' }) : '';
  }

  #commit() {
    const type = this.#type.value.trim();
    const id = this.#id.value.trim();
    const isValid = id === '' || isOwner(type, id);
    this.#check(isValid);
    if (isValid) this.#onowner(id === '' ? null : { type, id });
  }

  #check(isValid) {
    setAttribute(this.#type, 'aria-invalid', isValid ? null : 'true');
    this.#type.setCustomValidity(isValid ? '' : t('owner_invalid'));
    if (!isValid) this.#type.reportValidity();
  }
}
