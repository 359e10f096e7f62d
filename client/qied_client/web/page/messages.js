// What the page tells: a message that stays until it is read, notes on the edit, and words for screen readers.
import { Unreachable } from "./api.js";
import { $, element } from "./dom.js";
import { currentLanguage, explained, say } from "./words.js";

const NOTICE_MS = 6000;
let quieting = 0;

// Something went wrong: an error, or { code, message, remedy } of an outcome. It stays until it is closed.
export function complain(problem, action = null) {
  if (problem?.status === 401 || problem?.name === "AbortError") return;  // the page asks for a token; or it was meant
  const text = problem instanceof Unreachable ? say("offline") : explained(problem) || say("failed");
  show(text, "bad", action);
}

// Something worth knowing, which goes by itself unless it offers something to do.
export function notice(text, action = null) {
  show(text, "", action);
  if (!action) quieting = setTimeout(quiet, NOTICE_MS);
}

export function wrong(key, values = {}) { show(say(key, values), "bad", null); }

export function quiet() { $("toast").hidden = true; }

function show(text, kind, action) {
  clearTimeout(quieting);
  $("toast").className = `toast ${kind}`;
  $("toast-text").textContent = text;
  const button = $("toast-action");
  button.hidden = !action;
  button.textContent = action?.text ?? "";
  button.onclick = () => { quiet(); action.act(); };
  $("toast-close").onclick = () => { quiet(); action?.refuse?.(); };
  $("toast").hidden = false;
}

// Notes of the server are English.
export function showNotes(notes) {
  $("notes").hidden = !notes.length;
  $("notes").replaceChildren(...notes.map((note) => {
    const item = element("li", note);
    if (currentLanguage() !== "en" && !/[\u4e00-\u9fff]/.test(note)) item.lang = "en";
    return item;
  }));
}

export function tell(text) { $("said").textContent = text; }
