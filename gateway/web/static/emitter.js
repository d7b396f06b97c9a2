// An event target whose listeners get what the event carries.

export class Emitter extends EventTarget {
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  on(type, listener, options) {
    this.addEventListener(type, ({ detail }) => listener(detail), options);
  }
}
