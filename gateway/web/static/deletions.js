// Deletes images, with time to undo: the request goes out when that time ends, or at once when the page is left.
import { deleteImage } from './api.js';
import { reason } from './reasons.js';
import { toast } from './toast.js';
import { isolated, t } from './words.js';

const UNDO_SECONDS = 8;
const AT_ONCE = 4;
const ATTEMPTS = 5;
/** Seconds between two attempts if the gateway names none. */
const PAUSE = 3;

export class Deletions {
  #images;
  #pending = new Map();

  constructor(images) {
    this.#images = images;
    // The browser may end the page after this event, so the requests must outlive it.
    addEventListener('pagehide', () => {
      for (const [items, close] of this.#pending) {
        close();
        items.forEach((item) => deleteImage(item.id, true).catch(() => {}));
      }
      this.#pending.clear();
    });
  }

  remove(items) {
    const ids = items.map(({ id }) => id);
    const label = items[0].document.file_name ?? items[0].id;
    this.#images.hide(ids);
    const sentence = t('deleted', { count: items.length, name: isolated(label) });
    const close = toast(sentence, {
      seconds: UNDO_SECONDS,
      undo: () => {
        this.#pending.delete(items);
        this.#images.unhide(ids);
        toast(t('restored', { count: ids.length }));
      },
      onend: () => {
        this.#pending.delete(items);
        this.#send(ids);
      },
    });
    this.#pending.set(items, close);
  }

  async #send(ids) {
    const waiting = [...ids];
    const failed = [];
    const work = async () => {
      while (waiting.length) {
        const id = waiting.shift();
        const problem = await attempt(id);
        if (problem) failed.push({ id, problem });
        else this.#images.remove(id);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    // A hidden image that is deleted cannot come back, and one that is not deleted must be seen.
    this.#images.unhide(ids);
    if (failed.length) {
      toast(t('delete_failed', { count: failed.length, reason: reason(failed[0].problem) }), { seconds: UNDO_SECONDS });
    }
  }
}

/** Delete an image; returns the Problem if that fails several times. A deletion can be repeated as it is. */
async function attempt(id) {
  for (let number = 1; ; number++) {
    try {
      await deleteImage(id);
      return null;
    } catch (problem) {
      if (!problem.passes || number === ATTEMPTS) return problem;
      await new Promise((resolve) => { setTimeout(resolve, (problem.retryAfter ?? PAUSE) * 1000); });
    }
  }
}
