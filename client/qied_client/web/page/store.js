// What the browser keeps for this page: values by keys that are lists, in its own database. Each call is one transaction.
const NAME = "qied", STORE = "kept";
let opening = null;

function database() {
  opening ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opening;
}

async function within(mode, work) {
  const transaction = (await database()).transaction(STORE, mode);
  return new Promise((resolve, reject) => {
    const asked = work(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(asked?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

// All keys that begin with these parts.
const under = (parts) => IDBKeyRange.bound(parts, [...parts, []]);

export function valueOf(key) { return within("readonly", (store) => store.get(key)); }
export function keysUnder(parts) { return within("readonly", (store) => store.getAllKeys(parts.length ? under(parts) : null)); }

/** @param {{put?: [any[], any][], remove?: any[][]}} changes made all at once; a key to remove stands for all that begin with it */
export function change({ put = [], remove = [] }) {
  return within("readwrite", (store) => {
    for (const parts of remove) store.delete(under(parts));
    for (const [key, value] of put) store.put(value, key);
  });
}

export function removeAll() { return within("readwrite", (store) => store.clear()); }
