// The session of the picture: its turns as the server keeps them, and which of them is shown.
import { get, getBlob } from "./api.js";
import { mask } from "./brush.js";
import { $ } from "./dom.js";
import { fromText, madeAt, madePictures } from "./made.js";
import { complain, quiet } from "./messages.js";
import { pictureOf } from "./picture_file.js";
import { changed, state } from "./state.js";

const PLACE = "qied.place";
const KEPT = 40;  // pictures of turns that are not asked for again
const loaded = new Map();

export const path = (rest = "", name = state.session.name) => `/api/sessions/${encodeURIComponent(name)}${rest}`;

// Each tab has its own place; a new one begins where the last one was.
function place() { return JSON.parse(sessionStorage.getItem(PLACE) ?? localStorage.getItem(PLACE) ?? "null"); }
function keepPlace() {
  const text = JSON.stringify(state.session && { session: state.session.name, turn: state.current });
  for (const store of [sessionStorage, localStorage]) store.setItem(PLACE, text);
}

// The next edit opens a session on the first picture.
export function startAfresh() {
  state.session = state.shown = state.watched = null;
  state.current = 0;
  state.fresh.clear();
  quiet();  // it was about another picture
  keepPlace();
}

/** A session that was just opened on the first of the chosen pictures. */
export function opened(session) {
  state.session = session;
  state.current = 0;
  mask.rename(state.pictures[0], `${session.name}/0`);
  loaded.set(`${session.name}/0`, Promise.resolve(state.pictures[0]));
  keepPlace();
}

/** The addresses of a turn's picture and of its thumbnail. */
export const pictureAt = (turn) => (fromText() ? madeAt(turn, "result") : path(`/turns/${turn}/picture`));
export const thumbnailAt = (turn) => (fromText() ? madeAt(turn, "thumbnail") : path(`/turns/${turn}/thumbnail`));

export async function restore() {
  if (fromText()) return restoreMade();
  const last = place();
  if (!last) return;
  const session = await get(path("", last.session)).catch(() => null);
  if (session) await take(session, last.turn); else startAfresh();
}

async function restoreMade() {
  const made = await madePictures().catch(() => null);
  if (!made?.turns.length) return;
  state.session = made;
  if (made.head) await choose(made.head);
}

// Show a session, at a turn or, where that has no picture, at the latest that has one.
export async function take(session, turn = session.head) {
  startAfresh();
  state.session = session;
  state.pictures = [];
  const done = session.turns.filter((each) => each.blob).map((each) => each.turn);
  await choose([turn, session.head].find((each) => each === 0 || done.includes(each)) ?? done.at(-1) ?? 0);
}

// Answers that overtake each other do not bring an older state back.
let question = 0, answered = 0;
export async function refresh() {
  if (!state.session) return;
  const { name } = state.session, mine = ++question;
  const session = await (fromText() ? madePictures() : get(path())).catch(() => null);
  if (!session || mine < answered || state.session?.name !== name) return;
  answered = mine;
  state.session = session;
  changed();
}

function pictureOfTurn(turn) {
  const key = `${state.session.name}/${turn}`;
  if (!loaded.has(key)) {
    const asked = getBlob(pictureAt(turn)).then((blob) => pictureOf(blob, key));
    asked.catch(() => loaded.delete(key));
    loaded.set(key, asked);
    forgetOldest();
  }
  return loaded.get(key);
}

function forgetOldest() {
  for (const [key, asked] of loaded) {
    if (loaded.size <= KEPT) return;
    loaded.delete(key);
    asked.then((picture) => { if (![...state.pictures, state.shown?.base].includes(picture)) URL.revokeObjectURL(picture.url); }, () => {});
  }
}

let asked = 0;
export async function choose(turn) {
  const number = ++asked;
  const row = state.session.turns.find((each) => each.turn === turn);
  if (turn && !row?.blob) return;
  try {
    const edited = row && row.base !== null;
    const [picture, base] = await Promise.all([pictureOfTurn(turn), edited ? pictureOfTurn(row.base).catch(() => null) : null]);
    if (number !== asked) return;  // something else was chosen meanwhile
    state.current = turn;
    state.fresh.delete(turn);
    state.pictures = [picture, ...state.pictures.slice(1)];
    state.shown = base ? { picture, base, seed: row.seed } : null;
    keepPlace();
    changed();
  } catch (error) { complain(error); }
}

export function undo() {
  const row = state.session?.turns.find((turn) => turn.turn === state.current);
  if (!row || row.base === null) return;
  state.watched = null;
  choose(row.base);
}
$("tool-undo").addEventListener("click", undo);
