// The header: name, owner, number of images, state of the system, theme and the button to upload.
import { button, h, setAttribute } from './element.js';
import { number } from './format.js';
import { isOwner } from './route.js';
import { themeButton } from './theme.js';
import { t } from './words.js';

/** The header. `onowner` gets another owner, null for all images. */
export class Header {
  #type = h('input', { id: 'owner-type', value: 'user', maxlength: 32, size: 6, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none' });
  #id = h('input', { id: 'owner-id', placeholder: t('all'), maxlength: 128, size: 6, autocomplete: 'off', spellcheck: 'false', dir: 'auto' });
  #count = h('span', { class: 'muted count' });
  #onowner;

  constructor({ status, onowner, onupload }) {
    this.#onowner = onowner;
    const owner = h('div', { class: 'owner', role: 'group', 'aria-label': t('owner') },
      h('label', { for: 'owner-type', class: 'for-screen-readers' }, t('owner_type')), this.#type,
      h('label', { for: 'owner-id', class: 'for-screen-readers' }, t('owner_id')), this.#id);

    for (const input of [this.#type, this.#id]) input.addEventListener('change', () => this.#commit());
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
    this.#count.textContent = isLoaded ? t('count', { count: count === 1 ? 1 : number(count), more: hasMore }) : '';
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
