// The strip of turns: each edited another one, so it is a tree, drawn in the order in which it grew.
import { getBlob } from "./api.js";
import { element } from "./machine.js";
import { say } from "./words.js";

export class History {
  constructor(strip, onChoose) {
    this.strip = strip;
    this.onChoose = onChoose;
    this.thumbnails = new Map();
    strip.addEventListener("keydown", (event) => this.#walk(event));
  }

  show(session, current) {
    this.strip.hidden = !session;
    if (!session) return;
    const rows = [{ turn: 0, base: null, state: "succeeded", prompt: say("original") }, ...session.turns];
    const items = [];
    for (const [index, row] of rows.entries()) {
      if (index) items.push(element("span", row.base === rows[index - 1].turn ? "→" : "⤳", "branch"));
      items.push(this.#button(session, row, row.turn === current));
    }
    const focused = this.strip.contains(document.activeElement);
    this.strip.replaceChildren(...items);
    const chosen = this.strip.querySelector("[aria-current=true]");
    chosen?.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (focused) chosen?.focus();
  }

  #button(session, row, current) {
    const button = element("button", "", "turn");
    const thumb = element("span", "", "thumb");
    const done = row.state === "succeeded" || row.state === "released";
    button.classList.toggle("running", row.state === "waiting" || row.state === "running");
    button.classList.toggle("failed", ["failed", "cancelled", "poisoned"].includes(row.state));
    button.setAttribute("aria-current", String(current));
    button.tabIndex = current ? 0 : -1;
    const state = done ? row.prompt : `${row.prompt} – ${say(row.state)}`;
    const from = row.base ? `, ${say("branch", { n: row.base })}` : "";
    button.title = `${row.turn}: ${state}${from}`;
    button.append(thumb, element("span", row.prompt || String(row.turn), "name"));
    button.dataset.turn = row.turn;
    button.addEventListener("click", () => this.onChoose(row.turn));
    if (done) this.#thumbnail(session.name, row.turn).then((address) => { if (address) thumb.style.backgroundImage = `url(${address})`; });
    return button;
  }

  #thumbnail(name, turn) {
    const key = `${name}/${turn}`;
    if (!this.thumbnails.has(key)) {
      const made = getBlob(`/api/sessions/${encodeURIComponent(name)}/turns/${turn}/thumbnail`).then(URL.createObjectURL).catch(() => { this.thumbnails.delete(key); return null; });
      this.thumbnails.set(key, made);
    }
    return this.thumbnails.get(key);
  }

  #walk(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const buttons = [...this.strip.querySelectorAll(".turn")];
    const at = buttons.indexOf(document.activeElement);
    const next = buttons[at + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  }
}
