// The machine: its memory as a bar, who holds what, and for its owner what may be ordered.
import { post } from "./api.js";
import { bytes, duration, say } from "./words.js";

const ORDERS = ["pause", "resume", "unload", "load"];

export class Machine {
  constructor(part, onError) {
    this.part = part;
    this.onError = onError;
    this.owner = false;
    this.report = null;
    part.button.addEventListener("click", () => { this.#fill(); part.dialog.showModal(); });
  }

  show(report) {
    this.report = report;
    const { part } = this;
    part.button.hidden = false;
    const running = report.running;
    part.line.textContent = report.paused ? say("paused") : running === 0 ? say("idle") : running === 1 ? say("sharingOne") : say("sharing", { n: running });
    const worker = report.workers.find((row) => row.budget > 0);
    part.bar.replaceChildren(...(worker ? parts(worker, running) : []));
    part.size.textContent = worker ? say("ofSize", { a: bytes(worker.budget - worker.free), b: bytes(worker.budget) }) : "";
    if (part.dialog.open) this.#fill();
  }

  #fill() {
    const body = element("div");
    body.append(element("h2", say("machine")));
    const cards = element("div", "", "cards");
    for (const worker of this.report.workers) {
      const card = element("section");
      card.append(element("b", worker.device || worker.worker));
      const bar = element("span", "", "bar");
      bar.append(...parts(worker, this.report.running));
      card.append(bar);
      const sizes = ["weights", "sessions", "arena", "free"].map((name) => `${say(name)} ${bytes(worker[name])}`);
      card.append(element("p", worker.budget ? sizes.join(" · ") : worker.state));
      if (worker.trouble) card.append(element("p", worker.trouble, "error"));
      cards.append(card);
    }
    body.append(cards);
    if (this.report.jobs.length) body.append(table(this.report.jobs));
    if (this.owner) {
      const orders = element("div", "", "orders");
      for (const order of ORDERS) {
        const button = element("button", say(order));
        button.disabled = (order === "pause") === this.report.paused && ["pause", "resume"].includes(order);
        button.addEventListener("click", () => post("/api/control", { action: order }).catch(this.onError));
        orders.append(button);
      }
      body.append(orders);
    }
    this.part.body.replaceChildren(body);
  }
}

function parts(worker, running) {
  const share = (size) => `${(100 * size) / Math.max(worker.budget, 1)}%`;
  const pieces = [piece("w", share(worker.weights))];
  for (let edit = 0; edit < running; edit++) pieces.push(piece(`s${edit % 4}`, share(worker.sessions / running)));
  pieces.push(piece("a", share(worker.arena)));
  return pieces;
}

function piece(kind, width) {
  const made = element("i", "", kind);
  made.style.width = width;
  return made;
}

function table(jobs) {
  const made = element("table");
  const head = element("tr");
  for (const name of ["who", "what", "state", "queue"]) head.append(element("th", say(name)));
  made.append(head);
  for (const job of jobs) {
    const row = element("tr");
    const waits = job.place === null ? "" : `${job.place}${job.starts_in_ms === null ? "" : `, ${duration(job.starts_in_ms)}`}`;
    const step = job.state === "running" ? say("stepOf", { n: job.step, m: job.steps }) : say("waiting");
    for (const text of [job.user, `${job.width} × ${job.height}`, step, waits]) row.append(element("td", text));
    made.append(row);
  }
  return made;
}

export function element(kind, text = "", className = "") {
  const made = document.createElement(kind);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}
