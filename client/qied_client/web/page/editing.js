// From what was chosen to jobs: opens a session where there is none, and sends the edit as its next turn.
import { Refused, Unreachable, freshKey, post } from "./api.js";
import { $ } from "./dom.js";
import { mask } from "./brush.js";
import { showEarlier } from "./earlier.js";
import { fromText, madePictures } from "./made.js";
import { complain, notice, quiet, showNotes, wrong } from "./messages.js";
import { options } from "./options.js";
import { catchUp, follow } from "./runs.js";
import { opened, path, startAfresh } from "./session.js";
import { changed, state } from "./state.js";
import { say } from "./words.js";

// What is gone from the server, where this page still has the picture.
const GONE = ["unknown_session", "unknown_turn", "dependency_failed"];

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!state.pictures.length && !fromText()) { $("choose").focus(); return wrong("needPicture"); }
  if (!$("prompt").value.trim()) { $("prompt").focus(); return wrong(fromText() ? "needText" : "needPrompt"); }
  const notes = [];
  const painted = fromText() ? null : await mask.file();
  if (!painted && mask.meant) notes.push(say("maskEmpty"));
  // All is read now, so that the same edit can be sent again, whatever is changed meanwhile.
  await send({
    prompt: $("prompt").value.trim(), pictures: [...state.pictures], painted, chosen: options(), base: state.current, n: Number($("count").value), notes, key: freshKey(),
  });
});

async function send(edit) {
  if (state.sending) return;
  quiet();
  showNotes(edit.notes);
  state.masking = false;
  state.sending = { prompt: edit.prompt, stop: new AbortController() };
  $("edit").disabled = true;
  changed();
  $("canvas").scrollIntoView({ block: "nearest" });  // on a phone, the form is below it
  try {
    await submit(edit);
  } catch (error) {
    await failed(error, edit);
  } finally {
    state.sending = null;
    $("edit").disabled = false;
    changed();
  }
  await catchUp();
}

async function submit(edit) {
  const { signal } = state.sending.stop;
  if (fromText()) return make(edit, signal);
  if (!state.session) {
    const form = new FormData();
    form.append("image", edit.pictures[0].blob);
    form.append("name", `page-${edit.key}`);  // so that sending it again opens no second one
    opened(await post("/api/sessions", form, {}, signal));
  }
  const answer = await post(path("/turns"), formOf(edit), { "Idempotency-Key": edit.key }, signal);
  const { jobs } = answer;
  for (const [index, row] of jobs.entries()) follow(row.job, row.turn, edit.prompt, { batch: edit.key, index: index + 1, of: jobs.length, first: jobs[0].turn });
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
  if (edit.painted) { form.append("mask", edit.painted); form.append("mask_mode", "white"); }
  for (const [name, value] of Object.entries(edit.chosen)) form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  form.append("n", edit.n);
  return form;
}

async function failed(error, edit) {
  if (error instanceof Refused && GONE.includes(error.code) && state.session) {
    startAfresh();
    notice(say("gone"));
    return submit({ ...edit, base: 0, key: freshKey() }).catch(complain);
  }
  if (error instanceof Unreachable) return complain({ message: say("notSent") }, { text: say("tryAgain"), act: () => send(edit) });
  if (error.code === "quota_exceeded" && !state.session) return showEarlier(say("tooManyEarlier", { n: state.me.limits["limits.sessions_per_user"] }));
  complain(error);
}
