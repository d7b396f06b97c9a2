// Remembers choices in this browser. Without storage, as in some private windows, they last as long as the page.

export function remember(name, value) {
  try {
    localStorage.setItem(`imagepipe.${name}`, value);
  } catch {
    // The address has the owner, and the page its theme.
  }
}

/** What was remembered; null if there is nothing. */
export function recall(name) {
  try {
    return localStorage.getItem(`imagepipe.${name}`);
  } catch {
    return null;
  }
}
