// The strip of turns: each edited another one, so it is a tree, drawn in the order in which it grew.
import { getBlob } from "./api.js";
import { $, element } from "./dom.js";
import { watch } from "./runs.js";
import { fromText } from "./made.js";
import { choose, thumbnailAt } from "./session.js";
import { state, whenChanged } from "./state.js";
import { say } from "./words.js";

const DONE = ["succeeded", "released"];
const LIVE = ["waiting", "running"];
const thumbnails = new Map();

whenChanged(() => {
  const { session } = state;
  $("strip").hidden = !session;
  if (!session) return;
  const rows = fromText() ? session.turns : [{ turn: 0, base: null, state: "succeeded", prompt: say("original"), blob: true }, ...session.turns];
  const focused = $("turns").contains(document.activeElement) ? document.activeElement.dataset.turn : null;
  $("turns").replaceChildren(...rows.flatMap((row, index) => (index && row.base !== null ? [branch(row, rows[index - 1]), button(row)] : [button(row)])));
  const shown = $("turns").querySelector("[aria-current=true]");
  if (shown) bringIntoSight(shown);
  if (focused !== null) $("turns").querySelector(`[data-turn="${focused}"]`)?.focus();
});

// Along the strip only: the page itself stays where it is.
function bringIntoSight(turn) {
  const strip = $("turns"), { offsetLeft: left, offsetWidth: width } = turn;
  if (left < strip.scrollLeft) strip.scrollLeft = left;
  else if (left + width > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = left + width - strip.clientWidth;
}

// A turn that edited the one before it follows it; another one says where it came from.
function branch(row, before) {
  const made = element("span", "", "branch");
  const follows = row.base === before.turn;
  made.append(element("i", follows ? "→" : "⤳"));
  if (!follows) made.append(element("small", row.base ? say("fromTurn", { n: row.base }) : say("fromOriginal")));
  return made;
}

function button(row) {
  const made = element("button", "", "turn");
  const thumb = element("span", "", "thumb");
  const live = LIVE.includes(row.state), current = row.turn === state.current;
  made.classList.toggle("running", live);
  made.classList.toggle("failed", !live && !DONE.includes(row.state));
  made.setAttribute("aria-current", String(current));
  made.tabIndex = current ? 0 : -1;
  made.dataset.turn = row.turn;
  const label = row.state === "succeeded" ? row.prompt : `${row.prompt} – ${say(row.state)}`;
  const counted = row.turn && !fromText();
  made.title = counted ? `${row.turn}: ${label}` : label;
  const name = element("span", "", "name");
  if (counted) name.append(element("b", String(row.turn)), " ");
  name.append(DONE.includes(row.state) ? row.prompt : say(row.state));
  made.append(thumb, name);
  if (state.fresh.has(row.turn)) made.append(element("em", say("fresh"), "fresh"));
  made.addEventListener("click", () => {
    if (live) return watch(row.turn);
    state.watched = null;
    choose(row.turn);
  });
  if (row.blob) thumbnail(row.turn).then((address) => { if (address) thumb.style.backgroundImage = `url(${address})`; });
  return made;
}

function thumbnail(turn) {
  const address = thumbnailAt(turn);
  if (!thumbnails.has(address)) {
    thumbnails.set(address, getBlob(address).then(URL.createObjectURL).catch(() => { thumbnails.delete(address); return null; }));
  }
  return thumbnails.get(address);
}

$("turns").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const buttons = [...$("turns").querySelectorAll(".turn")];
  const next = buttons[buttons.indexOf(document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.click();
});
