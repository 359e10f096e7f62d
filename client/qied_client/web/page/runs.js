// The edits that wait or run: what is told of them, the picture as it forms, and what follows when one ends.
import { get, post } from "./api.js";
import { $ } from "./dom.js";
import { showForming } from "./forming.js";
import { complain, showNotes, tell } from "./messages.js";
import { choose, refresh } from "./session.js";
import { changed, state, whenChanged } from "./state.js";
import { duration, say } from "./words.js";

const PHASES = { encode_prompt: "reading", encode_image: "looking", prepare_steps: "preparing", decode: "finishing" };
const LIVE = ["waiting", "running"];
const ended = new Set();  // jobs whose end was told, though an answer may still show them running
const early = new Map();  // news of jobs that are not followed yet: they overtake the answer that names the job
const asked = new Set();  // jobs that were looked for in the session, since nothing was known of them

/** Follow a job of the session that is open. */
export function follow(job, turn, prompt, { session = state.session.name, batch = job, index = 1, of = 1, first = turn } = {}) {
  state.runs.set(job, { job, session, turn, prompt, batch, index, of, first, kind: "queued", phase: "", done: 0, total: 0, left: null, place: null, starts: null, note: "", pictured: 0 });
  for (const news of early.get(job)?.values() ?? []) learn(state.runs.get(job), news);
  early.delete(job);
}

// See what the server says of the session: turns from elsewhere, and ends that were missed while it was away.
export async function catchUp() {
  await refresh();
  for (const row of state.session?.turns ?? []) {
    if (LIVE.includes(row.state) && !state.runs.has(row.job) && !ended.has(row.job)) follow(row.job, row.turn, row.prompt);
  }
  for (const run of [...state.runs.values()]) {
    const row = run.session === state.session?.name ? state.session.turns.find((each) => each.job === run.job) : null;
    if (row && LIVE.includes(row.state)) continue;
    const facts = await get(`/api/jobs/${encodeURIComponent(run.job)}`).catch((error) => (error.status === 404 ? { state: "released" } : null));
    if (facts && !LIVE.includes(facts.state)) await conclude(run, facts);
  }
  showRun();
}

export function heardProgress(news) {
  const run = state.runs.get(news.job);
  if (!run) {
    if (!ended.has(news.job)) keepEarly(news);
    if (state.session && !state.sending && !asked.has(news.job)) { asked.add(news.job); catchUp(); }
    return;
  }
  learn(run, news);
  showRun();
}

// The latest of each kind, in the order in which they came.
function keepEarly(news) {
  const known = early.get(news.job) ?? new Map();
  known.delete(news.kind);
  early.set(news.job, known.set(news.kind, news));
}

function learn(run, news) {
  Object.assign(run, { kind: news.kind, place: news.place ?? null, starts: news.starts_in_ms ?? null, note: news.note ?? "" });
  if (news.phase) run.phase = news.phase;
  if (news.total) { run.done = news.done; run.total = news.total; }
  if (news.remaining_ms !== undefined) run.left = news.remaining_ms;
  if (news.kind === "preview") run.pictured = news.done;
}

export function heardOutcome(outcome) {
  early.delete(outcome.job);
  const run = state.runs.get(outcome.job);
  if (run) conclude(run, outcome);
}

async function conclude(run, facts) {
  if (!state.runs.delete(run.job)) return;
  ended.add(run.job);
  if (run.session !== state.session?.name) return changed();
  await refresh();
  const watched = state.watched === run.batch;
  const others = [...state.runs.values()].some((each) => each.batch === run.batch);
  if (watched && !others) state.watched = null;
  if (facts.state === "succeeded") {
    showNotes([...(facts.warnings ?? []), ...moved(facts.drift)]);
    if (!others) finished(run.prompt);
    state.fresh.add(run.turn);
    // Of variations, the first is shown once all are there.
    const { turn } = state.session.turns.find((row) => row.turn === run.first && row.blob) ?? run;
    if (watched && !others) return choose(turn);
  } else if (["failed", "poisoned"].includes(facts.state)) complain(facts);
  changed();
}

// How far the model had moved the picture, where that can be seen.
function moved(drift) {
  if (!drift || (Math.max(Math.abs(drift.x), Math.abs(drift.y)) < 0.25 && Math.abs(drift.zoom - 1) < 0.001)) return [];
  return [say(drift.undone ? "drifted" : "driftedStays", { x: drift.x.toFixed(1), y: drift.y.toFixed(1), z: (100 * (drift.zoom - 1)).toFixed(2) })];
}

// A person who waits in another tab sees it in the title.
let done = "";
function finished(prompt) {
  tell(say("doneSaid", { t: prompt }));
  if (document.hidden) done = say("doneTitle", { t: prompt });
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) { done = ""; showTitle(null); } });

// The run that the line is about: of the watched batch if there is one, and one that has begun rather than one that waits.
function shownRun() {
  const runs = [...state.runs.values()].filter((run) => run.session === state.session?.name);
  const watched = runs.filter((run) => run.batch === state.watched);
  const among = watched.length ? watched : runs;
  return among.find((run) => !waits(run)) ?? among[0] ?? null;
}

function waits(run) { return run.kind === "queued" || run.kind === "requeued"; }

function stepOf(run) {
  if (waits(run)) return [run.place ? say("place", { n: run.place }) : say("waiting"), run.note].filter(Boolean).join(" · ");
  const step = run.total && run.phase !== "decode" && ["step", "preview"].includes(run.kind);
  const text = step ? say("stepOf", { n: run.done, m: run.total }) : say(PHASES[run.phase] ?? "running");
  return run.of > 1 ? `${say("pictureOf", { n: run.index, m: run.of })} · ${text}` : text;
}

function leftOf(run) {
  if (waits(run)) return run.starts === null ? "" : say("startsIn", { t: duration(run.starts) });
  return run.left === null ? "" : say("left", { t: duration(run.left) });
}

function showRun() {
  const run = shownRun();
  $("run").hidden = !run && !state.sending;
  showTitle(run);
  if (state.sending) {
    $("run-title").textContent = state.sending.prompt;
    $("run-step").textContent = say("sending");
    $("run-left").textContent = "";
    $("run-bar").removeAttribute("value");
    return;
  }
  showForming(run && run.batch === state.watched ? run : null);
  if (!run) return;
  const others = [...state.runs.values()].filter((each) => each.batch !== run.batch).length;
  $("run-title").textContent = run.prompt;
  $("run-step").textContent = [stepOf(run), others ? say("othersWait", { n: others }) : ""].filter(Boolean).join(" · ");
  $("run-left").textContent = leftOf(run);
  $("run-bar").value = run.total ? (1000 * run.done) / run.total : 0;
}
whenChanged(showRun);

function showTitle(run) {
  if (!run) document.title = done || "qied";
  else if (waits(run)) document.title = say("titleWaits", { left: leftOf(run) || stepOf(run), t: run.prompt.slice(0, 40) });
  else document.title = say("title", { left: leftOf(run) || stepOf(run), p: run.total ? Math.round((100 * run.done) / run.total) : 0, t: run.prompt.slice(0, 40) });
}

$("run-cancel").addEventListener("click", () => {
  if (state.sending) return state.sending.stop.abort();
  const shown = shownRun();
  for (const run of state.runs.values()) {
    if (run.batch === shown?.batch) post(`/api/jobs/${encodeURIComponent(run.job)}/cancel`).catch(complain);
  }
});

/** Show a turn that still runs as it forms. */
export function watch(turn) {
  const run = [...state.runs.values()].find((each) => each.turn === turn && each.session === state.session?.name);
  if (!run) return;
  state.watched = run.batch;
  changed();
}
