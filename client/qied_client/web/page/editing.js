// From what was chosen to jobs: opens a session where there is none, and sends the edit as its next turn.
import { Refused, Unreachable, freshKey, get, post } from "./api.js";
import { $ } from "./dom.js";
import { mask } from "./brush.js";
import { showEarlier } from "./earlier.js";
import { keep } from "./keeping.js";
import { fromText, madePictures } from "./made.js";
import { complain, notice, quiet, showNotes, wrong } from "./messages.js";
import { options } from "./options.js";
import { asRedraw, shownPrompt } from "./redraw.js";
import { catchUp, follow } from "./runs.js";
import { opened, path, startAfresh, take } from "./session.js";
import { sizeLikeFirst } from "./sizing.js";
import { changed, state } from "./state.js";
import { say } from "./words.js";

// What is gone from the server, where this page still has the picture.
const GONE = ["unknown_session", "unknown_turn", "dependency_failed"];

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!state.pictures.length && !fromText()) { $("choose").focus(); return wrong("needPicture"); }
  const prompt = $("prompt").value.trim() || (state.redrawing ? shownPrompt() : "");
  if (!prompt) { $("prompt").focus(); return wrong(fromText() ? "needText" : "needPrompt"); }
  const notes = [];
  const painted = fromText() ? null : await mask.file();
  if (!painted && (mask.meant || state.redrawing)) notes.push(say(state.redrawing ? "redrawAll" : "maskEmpty"));
  // All is read now, so that the same edit can be sent again, whatever is changed meanwhile.
  await send({
    prompt, pictures: [...state.pictures], painted, chosen: state.redrawing ? asRedraw(options()) : options(), base: state.current, n: Number($("count").value), notes, key: freshKey(),
    session: state.session?.name ?? null, failed: false,
  });
});

/** Send an edit that a reload interrupted; one that did not get through before it is offered again. */
export function sendAgain(edit) { return edit.failed ? offer(edit) : send(edit); }

function offer(edit) {
  state.unsent = edit;
  complain({ message: say("notSent") }, { text: say("tryAgain"), act: () => send({ ...edit, failed: false }), refuse: () => forget(edit) });
}

function forget(edit) {
  if (state.unsent?.key === edit.key) state.unsent = null;
  keep();
}

async function send(edit) {
  if (state.sending) return;
  quiet();
  showNotes(edit.notes);
  state.unsent = edit;
  state.masking = state.redrawing = false;
  state.sending = { prompt: edit.prompt, stop: new AbortController() };
  $("edit").disabled = true;
  changed();
  $("canvas").scrollIntoView({ block: "nearest" });  // on a phone, the form is below it
  try {
    await keep();  // a reload from now on goes on with it
    await goTo(edit);
    await submit(edit);
    forget(edit);
  } catch (error) {
    await failed(error, edit);
  } finally {
    state.sending = null;
    $("edit").disabled = false;
    changed();
  }
  await catchUp();
}

// Show the picture that is edited; after a reload, or a while, it may be another one.
async function goTo(edit) {
  edit.session ??= state.session?.name === ownName(edit) ? ownName(edit) : null;
  if (edit.session === (state.session?.name ?? null)) return;
  if (edit.session) {
    await take(await get(path("", edit.session)), edit.base);
    state.pictures.push(...edit.pictures.slice(1));
  } else {
    startAfresh();
    state.pictures = [...edit.pictures];
  }
  changed();
}

// The session that an edit opens: sending it again opens no second one.
const ownName = (edit) => `page-${edit.key}`;

async function submit(edit) {
  const { signal } = state.sending.stop;
  if (fromText()) return make(edit, signal);
  if (!edit.session) {
    const form = new FormData();
    form.append("image", edit.pictures[0].blob);
    form.append("name", ownName(edit));
    opened(await post("/api/sessions", form, {}, signal));
    edit.session = state.session.name;
  }
  if (!edit.chosen.redraw) edit.chosen.size ||= await sizeLikeFirst(edit.pictures);
  await keep();  // sent again, it is the same
  const answer = await post(path("/turns", edit.session), formOf(edit), { "Idempotency-Key": edit.key }, signal);
  const { jobs } = answer;
  for (const [index, row] of jobs.entries()) follow(row.job, row.turn, edit.prompt, { session: edit.session, batch: edit.key, index: index + 1, of: jobs.length, first: jobs[0].turn });
  state.watched ??= edit.key;
  showNotes([...edit.notes, ...answer.notes]);
}

// From text alone there is no session: each job stands for itself.
async function make(edit, signal) {
  const { jobs, notes } = await post("/api/jobs", formOf(edit), { "Idempotency-Key": edit.key }, signal);
  state.session = await madePictures();
  const numbers = jobs.map((row) => state.session.turns.find((each) => each.job === row.job)?.turn ?? 0);
  for (const [index, row] of jobs.entries()) follow(row.job, numbers[index], edit.prompt, { batch: edit.key, index: index + 1, of: jobs.length, first: numbers[0] });
  state.watched ??= edit.key;
  showNotes([...edit.notes, ...notes]);
}

function formOf(edit) {
  const form = new FormData();
  form.append("prompt", edit.prompt);
  if (!fromText()) form.append("base", edit.base);
  for (const picture of fromText() ? [] : edit.pictures.slice(1)) form.append("image", picture.blob);
  if (edit.chosen.redraw) {
    // It is drawn on the picture that the model sees as the first one.
    form.append("canvas", edit.pictures[0].blob);
    if (edit.painted) form.append("redraw_mask", edit.painted);
  } else if (edit.painted) { form.append("mask", edit.painted); form.append("mask_mode", "white"); }
  for (const [name, value] of Object.entries(edit.chosen)) if (value !== "") form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  form.append("n", edit.n);
  return form;
}

async function failed(error, edit) {
  if (error instanceof Unreachable) {
    if (leaving) return;  // a reload ends requests as well
    offer({ ...edit, failed: true });
    return keep();
  }
  forget(edit);
  if (error instanceof Refused && GONE.includes(error.code) && edit.session && edit.pictures[0]) {
    startAfresh();
    notice(say("gone"));
    const again = { ...edit, base: 0, key: freshKey(), session: null };
    state.unsent = again;
    return submit(again).catch(complain).finally(() => forget(again));
  }
  if (error.code === "quota_exceeded" && !state.session) return showEarlier(say("tooManyEarlier", { n: state.me.limits["limits.sessions_per_user"] }));
  complain(error);
}

let leaving = false;
addEventListener("beforeunload", () => {
  leaving = true;
  setTimeout(() => { leaving = false; }, 2000);  // the person stayed
});
