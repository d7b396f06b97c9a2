// Builds DOM elements, without markup in strings.

/**
 * An element with properties and children. A property that begins with `on` is a listener, the others are attributes;
 * null, undefined and false leave an attribute or a child out.
 */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else setAttribute(element, name, value);
  }
  element.append(...children.flat().filter((child) => (child ?? false) !== false));
  return element;
}

/** Set an attribute; null, undefined and false remove it. */
export function setAttribute(element, name, value) {
  if ((value ?? false) === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? '' : value);
}

/** Text of unknown direction, such as a file name: it does not turn the sentence around it. A long one breaks after `_`. */
export function name(text) {
  return h('bdi', { dir: 'auto' }, text.split(/(?<=_)/).flatMap((part) => [part, h('wbr')]));
}

export function button(label, onclick, properties = {}) {
  return h('button', { type: 'button', onclick, ...properties }, label);
}

const svg = (tag, attributes, ...children) => filled(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

export function outline(...paths) {
  return svg('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true', class: 'outline' }, paths.map((d) => svg('path', { d })));
}
