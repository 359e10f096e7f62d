// The machine: its memory as a bar, who holds what, and for its owner what may be ordered.
import { post } from "./api.js";
import { $, element } from "./dom.js";
import { state, whenChanged } from "./state.js";
import { bytes, duration, explained, say } from "./words.js";

const COLOURS = 4;
let report = null;

/** @param {object} news a status report of the server */
export function showMachine(news) {
  report = news;
  show();
}

function show() {
  if (!report) return;
  const { running } = report;
  const [worker] = report.workers.filter((row) => row.budget > 0);
  $("machine").hidden = false;
  $("machine-line").textContent = report.paused ? say("paused") : running === 0 ? say("idle") : running === 1 ? say("sharingOne") : say("sharing", { n: running });
  $("machine").setAttribute("aria-label", `${say("machine")}: ${$("machine-line").textContent}`);
  $("machine-bar").hidden = $("machine-size").hidden = !worker;
  if (worker) {
    $("machine-bar").replaceChildren(...pieces(worker));
    $("machine-size").textContent = say("ofSize", { a: bytes(worker.budget - worker.free), b: bytes(worker.budget) });
  }
  if ($("owner").open) fill();
}
whenChanged(show);

$("machine").addEventListener("click", () => {
  $("orders").hidden = !state.me.owner;
  $("owner-error").hidden = true;
  fill();
  $("owner").showModal();
});

// The orders stay where they are while the rest is drawn anew each second, so that they can be reached by keyboard.
for (const button of $("orders").querySelectorAll("button")) {
  button.addEventListener("click", () => {
    $("owner-error").hidden = true;
    post("/api/control", { action: button.dataset.order }).catch((error) => {
      $("owner-error").textContent = explained(error) || say("offline");
      $("owner-error").hidden = false;
    });
  });
}

function fill() {
  for (const button of $("orders").querySelectorAll("button")) {
    const { order } = button.dataset;
    if (["pause", "resume"].includes(order)) button.hidden = (order === "pause") === report.paused;
    else button.hidden = (order === "load") !== report.workers.every((row) => row.state === "unloaded");
  }
  $("owner-facts").textContent = [
    report.model, report.precision.toUpperCase(), say("people", { n: report.clients }), say("disk", { a: bytes(report.blob_bytes), b: bytes(report.blob_limit) }),
  ].join(" · ");
  $("owner-cards").replaceChildren(...report.workers.map(card));
  const jobs = report.jobs.map((row) => [
    row.user, `${row.width} × ${row.height}`, row.state === "running" ? say("stepOf", { n: row.step, m: row.steps }) : row.place ? say("place", { n: row.place }) : say("waiting"),
    row.starts_in_ms === null ? "" : say("startsIn", { t: duration(row.starts_in_ms) }),
  ]);
  $("owner-queue").replaceChildren(jobs.length ? table(["who", "what", "state", "starts"], jobs, colours()) : element("p", say("noQueue"), "soft"));
  const sessions = report.sessions.map((row) => [row.user, String(row.turns), duration(row.idle_ms)]);
  $("owner-sessions").replaceChildren(...(sessions.length ? [element("h3", say("openSessions")), table(["who", "turns", "idleFor"], sessions)] : []));
}

function card(worker) {
  const made = element("section", "", "worker");
  const head = element("p", "", "head");
  head.append(element("b", worker.device || worker.worker));
  head.append(element("span", worker.state === "ready" ? say("ofSize", { a: bytes(worker.budget - worker.free), b: bytes(worker.budget) }) : say(worker.state), "soft"));
  made.append(head);
  if (worker.budget) {
    const bar = element("span", "", "bar");
    bar.append(...pieces(worker));
    const legend = element("p", "", "legend");
    const users = running().map((row) => row.user);
    const edits = [...new Set(users)].map((user) => (user === state.me.user ? say("you") : user)).join(", ");
    for (const [kind, name, size] of [
      ["w", say("weights"), worker.weights], ["s0", edits ? `${say("edits")} (${edits})` : say("edits"), worker.sessions], ["a", say("arena"), worker.arena], ["f", say("free"), worker.free],
    ]) {
      const item = element("span", `${name} ${bytes(size)}`);
      item.prepend(element("i", "", kind));
      legend.append(item);
    }
    made.append(bar, legend);
  }
  if (worker.restarts) made.append(element("p", say("restarts", { n: worker.restarts }), "soft"));
  if (worker.trouble) made.append(element("p", worker.trouble, "error"));
  return made;
}

function running() { return report.jobs.filter((row) => row.state === "running"); }

// The colour of each running edit in the bar, in the order of the table's rows.
function colours() {
  let next = 0;
  return report.jobs.map((row) => (row.state === "running" ? `s${next++ % COLOURS}` : ""));
}

function pieces(worker) {
  const share = (size) => `${(100 * size) / worker.budget}%`;
  const edits = Math.max(1, running().length);
  const parts = [["w", worker.weights], ...Array.from({ length: edits }, (_, edit) => [`s${edit % COLOURS}`, worker.sessions / edits]), ["a", worker.arena]];
  return parts.map(([kind, size]) => {
    const made = element("i", "", kind);
    made.style.width = share(size);
    return made;
  });
}

function table(names, rows, marks = []) {
  const made = element("table");
  const head = element("tr");
  for (const name of names) head.append(Object.assign(element("th", say(name)), { scope: "col" }));
  made.append(head);
  for (const [index, texts] of rows.entries()) {
    const row = element("tr");
    for (const text of texts) row.append(element("td", text));
    if (marks[index]) row.firstElementChild.prepend(element("i", "", marks[index]));
    made.append(row);
  }
  return made;
}
