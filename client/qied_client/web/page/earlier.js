// The pictures that were edited before: each is a session of the server, which can be opened again or deleted.
import { get, getBlob, remove } from "./api.js";
import { $, element } from "./dom.js";
import { complain } from "./messages.js";
import { catchUp } from "./runs.js";
import { path, startAfresh, take } from "./session.js";
import { changed, state, whenChanged } from "./state.js";
import { say } from "./words.js";

export async function showEarlier(text = "") {
  const { sessions } = await get("/api/sessions").catch((error) => { complain(error); return { sessions: null }; });
  if (!sessions) return;
  $("earlier-text").textContent = text || (sessions.length ? "" : say("noEarlier"));
  $("earlier-text").hidden = !$("earlier-text").textContent;
  $("earlier-list").replaceChildren(...sessions.map(card));
  if (!$("earlier").open) $("earlier").showModal();
}

function card(session) {
  const made = element("li", "", "card");
  made.classList.toggle("current", session.name === state.session?.name);
  const open = element("button", "", "open");
  open.type = "button";
  const thumb = element("span", "", "thumb");
  const count = session.turns === 0 ? say("noEdits") : session.turns === 1 ? say("turnOf") : say("turnsOf", { n: session.turns });
  open.append(thumb, element("b", session.prompt || say("original")), element("small", count));
  open.title = `${say("openAgain")}: ${session.prompt || say("original")}`;
  open.addEventListener("click", () => openAgain(session.name));
  thumbnail(session).then((blob) => { thumb.style.backgroundImage = `url(${URL.createObjectURL(blob)})`; }, () => {});
  const away = element("button", say("forget"), "quiet");
  away.type = "button";
  away.addEventListener("click", () => {
    if (away.dataset.sure) return forget(session, made);
    away.dataset.sure = "1";
    away.textContent = say("forgetSure");
  });
  away.addEventListener("blur", () => { delete away.dataset.sure; away.textContent = say("forget"); });
  made.append(open, away);
  return made;
}

// A latest turn that still runs, or failed, has no picture; the first one always has.
function thumbnail({ name, head }) {
  return getBlob(path(`/turns/${head}/thumbnail`, name)).catch(() => getBlob(path("/turns/0/thumbnail", name)));
}

async function openAgain(name) {
  $("earlier").close();
  try {
    await take(await get(path("", name)));
    await catchUp();
  } catch (error) { complain(error); }
}

async function forget(session, made) {
  try {
    await remove(path("", session.name));
    made.remove();
    if (session.name !== state.session?.name) return;
    startAfresh();
    state.pictures = [];
    changed();
  } catch (error) { complain(error); $("earlier").close(); }
}

function newPicture() {
  startAfresh();
  state.pictures = [];
  changed();
  $("choose").focus();
}

whenChanged(() => { $("fresh-start").disabled = !state.pictures.length; });
for (const id of ["earlier-open", "earlier-empty"]) $(id).addEventListener("click", () => showEarlier());
$("fresh-start").addEventListener("click", newPicture);
