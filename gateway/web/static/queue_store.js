// Keeps the upload queue in IndexedDB, with its files, so that it survives a reload.

/** Milliseconds between two looks for entries of closed pages. */
const PAUSE = 5_000;

let opened = null;

const open = () => new Promise((resolve, reject) => {
  const request = indexedDB.open('imagepipe', 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('entries', { keyPath: 'id' });
    request.result.createObjectStore('files');
  };
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/** Run `work` in a transaction; returns the result of its request, null if the browser refuses. */
async function run(mode, work) {
  try {
    opened ??= open();
    const transaction = (await opened).transaction(['entries', 'files'], mode);
    const request = work(transaction.objectStore('entries'), transaction.objectStore('files'));
    return await new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  } catch {
    // Without storage, as in some private windows, or without room for a file, the queue lasts as long as the page.
    return null;
  }
}

/** Keep entries, without their files: all in one transaction, because hundreds may be dropped at once. */
export const keep = (...records) => run('readwrite', (entries) => records.map((record) => entries.put(record)).at(-1));

/** Keep the file of an entry, in a transaction of its own: there may be room for some of many. */
export const keepFile = ({ id, file }) => run('readwrite', (_, files) => files.put(file, id));

export const forget = (id) => run('readwrite', (entries, files) => {
  files.delete(id);
  return entries.delete(id);
});

export const forgetFile = (id) => run('readwrite', (_, files) => files.delete(id));

const kept = async () => (await run('readonly', (entries) => entries.getAll())) ?? [];

async function keptOf(isWanted) {
  const records = (await kept()).filter(isWanted);
  return Promise.all(records.map(async (record) => ({ ...record, file: await run('readonly', (_, files) => files.get(record.id)) })));
}

/**
 * Take over the entries of pages that are no longer open, now and when a page is closed. `adopt` gets those of one
 * page, with their files. Each open page holds a Web Lock with the name of its queue; without locks all entries are
 * taken over at once.
 */
export async function takeOver(queueId, adopt) {
  const lockOf = (id) => `imagepipe.queue ${id}`;
  if (!navigator.locks) {
    adopt(await keptOf(() => true));
    return;
  }
  navigator.locks.request(lockOf(queueId), () => new Promise(() => {}));
  let before = null;
  const look = async () => {
    const free = new Set();
    for (const queue of new Set((await kept()).map((each) => each.queue))) {
      await navigator.locks.request(lockOf(queue), { ifAvailable: true }, async (lock) => {
        if (!lock) return;
        // A page that is reloaded finds its queue at its first look. The others wait until it is free twice.
        if (before && !before.has(queue)) free.add(queue);
        else adopt(await keptOf((record) => record.queue === queue));
      });
    }
    before = free;
    setTimeout(look, PAUSE);
  };
  await look();
}
