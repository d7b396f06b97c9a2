// Keeps the owner and the open image in the address, so that back, forward and links work; remembers the owner.
import { recall, remember } from './memory.js';

const TYPE = /^[a-z][a-z0-9_]{0,31}$/;
const MAX_ID = 128;

export function isOwner(type, id) {
  return TYPE.test(type) && id.length >= 1 && [...id].length <= MAX_ID && !/[\u0000-\u001f\u007f-\u009f]/.test(id);
}

/** `user:1`, or an empty string for all. */
export const ownerKey = (owner) => (owner ? `${owner.type}:${owner.id}` : '');

/** The owner of a key; null for all images. */
function parseOwner(key) {
  const [, type, id] = /^([^:]*):(.*)$/s.exec(key ?? '') ?? [];
  return type !== undefined && isOwner(type, id) ? { type, id } : null;
}

/** The place that the address names, else the owner that was chosen last: `{owner, image}`. */
export function currentPlace() {
  const query = new URLSearchParams(location.search);
  return { owner: parseOwner(query.get('owner') ?? recall('owner')), image: query.get('image') };
}

export function addressOf({ owner, image }) {
  const query = new URLSearchParams({ owner: ownerKey(owner) });
  if (image) query.set('image', image);
  return `?${query.toString().replaceAll('%3A', ':')}`;
}

/** Go to a place: a new entry of the history, or with `replace` instead of the present one. */
export function go(place, { replace = false, state = null } = {}) {
  remember('owner', ownerKey(place.owner));
  history[replace ? 'replaceState' : 'pushState'](state, '', addressOf(place));
}
