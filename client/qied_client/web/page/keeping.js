// What a tab has before the server has it, kept over a reload: its pictures, its masks, and the edit that is being sent.
import { freshKey } from "./api.js";
import { mask } from "./brush.js";
import { pictureOf } from "./picture_file.js";
import { change, keysUnder, removeAll, valueOf } from "./store.js";
import { state, whenChanged } from "./state.js";

const TAB = "qied.tab";
const TABS = 12, OLD_MS = 14 * 86_400_000;  // closed tabs leave what they had behind
const origin = sessionStorage.getItem(TAB) ?? freshKey();
let tab = origin;
sessionStorage.setItem(TAB, tab);
let ready = false;      // what was kept has been read, so that it may be written over
let stored = new Set(); // ids of the pictures that are in the database
let last = "", writing = Promise.resolve();

// A tab that was duplicated begins with the other one's name, and takes one of its own.
const tabs = new BroadcastChannel(TAB);
const born = Date.now();
tabs.onmessage = ({ data }) => {
  if (data.asks === tab) tabs.postMessage({ taken: tab });
  if (data.taken !== tab || Date.now() - born > 5000) return;
  tab = freshKey();
  sessionStorage.setItem(TAB, tab);
  stored = new Set();
  last = "";
  keep();
};
tabs.postMessage({ asks: tab });

/** Write down what there is now. @returns {Promise<void>} once it is on disk, or cannot be */
export function keep() {
  if (!ready || !state.me) return writing;
  const { unsent } = state;
  // The server has the first picture of a session.
  const pictures = [...state.pictures.slice(state.session ? 1 : 0), ...(unsent ? unsent.pictures.slice(unsent.session ? 1 : 0) : [])];
  const wanted = new Map(pictures.map((picture) => [picture.id, picture.blob]));
  const now = JSON.stringify([tab, [...wanted.keys()], state.pictures.map(({ id }) => id), mask.version, unsent?.key, unsent?.session, unsent?.failed, unsent?.chosen.size]);
  if (now === last) return writing;
  last = now;
  const draft = { user: state.me.user, at: Date.now(), pictures: state.pictures.map(({ id }) => id), masks: mask.all() };
  const sending = unsent && { ...unsent, pictures: unsent.pictures.map(({ id }) => id) };
  const mine = tab;
  writing = writing.then(async () => {
    const put = [...wanted].filter(([id]) => !stored.has(id)).map(([id, blob]) => [[mine, "picture", id], blob]);
    const gone = [...stored].filter((id) => !wanted.has(id)).map((id) => [mine, "picture", id]);
    put.push([[mine, "draft"], draft]);
    if (sending) put.push([[mine, "sending"], sending]); else gone.push([mine, "sending"]);
    await change({ put, remove: gone });
    stored = new Set(wanted.keys());
  }).catch(() => { last = ""; });  // no database, or no room in it: the page works without
  return writing;
}

/**
 * Put back the pictures and masks that this tab had.
 * @returns {Promise<object | null>} the edit that was being sent
 */
export async function restoreKept() {
  try {
    const draft = await valueOf([origin, "draft"]);
    if (draft?.user !== state.me.user) { await change({ remove: [[origin]] }); return null; }
    if (tab === origin) stored = new Set((await keysUnder([origin, "picture"])).map(([, , id]) => id));
    mask.bring(draft.masks);
    const own = state.session ? 1 : 0;
    const pictures = await picturesOf(draft.pictures.slice(own));
    if (state.pictures.length <= own) state.pictures.push(...pictures);  // else others were chosen meanwhile
    const sending = await valueOf([origin, "sending"]);
    if (!sending) return null;
    const all = await picturesOf(sending.pictures.slice(sending.session ? 1 : 0));
    return { ...sending, pictures: sending.session ? [state.pictures[0], ...all] : all };
  } catch {
    return null;
  } finally {
    ready = true;
    forgetOld().catch(() => {});
  }
}

async function picturesOf(ids) {
  const found = await Promise.all(ids.map(async (id) => {
    const blob = await valueOf([origin, "picture", id]);
    return blob ? pictureOf(blob, id).catch(() => null) : null;
  }));
  return found.filter(Boolean);
}

async function forgetOld() {
  const drafts = await Promise.all((await keysUnder([])).filter((key) => key[1] === "draft").map(async (key) => [key[0], (await valueOf(key))?.at ?? 0]));
  const others = drafts.filter(([name]) => name !== tab).sort((one, other) => other[1] - one[1]);
  const old = others.filter(([, at], index) => index >= TABS || Date.now() - at > OLD_MS);
  if (old.length) await change({ remove: old.map(([name]) => [name]) });
}

/** Nothing of this person stays in the browser. */
export async function forgetAll() {
  ready = false;
  state.me = null;  // so that nothing is written when the page goes
  sessionStorage.clear();
  await writing;
  await removeAll().catch(() => {});
}

whenChanged(keep);
mask.whenPainted(keep);
