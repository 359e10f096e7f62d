// The page begins here: who is at it, what the server says all the time, and the language.
import { Refused, forgetToken, get, listen, rememberToken, token, whenUnauthorized } from "./api.js";
import "./brush.js";
import { $ } from "./dom.js";
import "./earlier.js";
import { sendAgain } from "./editing.js";
import "./history.js";
import "./keys.js";
import { showMachine } from "./machine.js";
import { loadUpscalers } from "./enlarging.js";
import { dressForText } from "./made.js";
import { complain, notice, tell } from "./messages.js";
import { restoreDraft, showPresets, showShapes } from "./options.js";
import "./pictures.js";
import "./prices.js";
import { restoreKept } from "./keeping.js";
import "./redraw.js";
import { catchUp, heardOutcome, heardProgress } from "./runs.js";
import { restore } from "./session.js";
import { changed, hasEntered, state } from "./state.js";
import { loadStyles } from "./styles.js";
import "./tools.js";
import { say, switchLanguage, translate } from "./words.js";

const AGAIN_MS = 2000;
const NO_NEWS_MS = 8000;  // the state of the machine comes each second while the daemon answers
let stopListening = () => {}, patience = 0;

// Who is here

async function enter() {
  stopListening();
  if (!token()) return askForToken();
  try {
    const me = await get("/api/me");
    if (state.me && state.me.user !== me.user) return location.reload();
    state.me = me;
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return;  // asked for already
    if (error instanceof Refused && error.status === 403) return askForToken(say("noAccess", { why: error.message }));
    away(error instanceof Refused ? "daemonAway" : "offline");
    return void setTimeout(enter, AGAIN_MS);
  }
  if ($("login").open) $("login").close();
  $("user").textContent = state.me.user;
  $("user").hidden = false;
  $("model").hidden = false;
  $("model-name").textContent = `${state.me.title} · ${state.me.precision.toUpperCase()}`;
  dressForText();
  showPresets();
  await Promise.all([loadStyles(), loadUpscalers()]);
  showShapes();
  let unsent = null;
  if (!state.session) {
    restoreDraft();
    await restore();
    unsent = await restoreKept();
  }
  hasEntered();
  changed();
  stopListening = listen("/api/events", heard, reached);
  if (unsent) sendAgain(unsent);
}

function askForToken(problem = "") {
  $("login-error").textContent = problem;
  $("login-error").hidden = !problem;
  if (!$("login").open) $("login").showModal();
  $("token").focus();
}

whenUnauthorized(() => {
  stopListening();
  clearTimeout(patience);
  forgetToken();
  askForToken(say("badToken"));
});
$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  rememberToken($("token").value.trim());
  $("token").value = "";
  enter();
});
$("login").addEventListener("cancel", (event) => event.preventDefault());

// What the server says

function heard(name, data) {
  if (name === "status") heardStatus(data);
  else if (name === "job") heardProgress(data);
  else if (name === "outcome") heardOutcome(data);
}

function heardStatus(report) {
  clearTimeout(patience);
  if (!report.reachable) return away("daemonAway");
  patience = setTimeout(away, NO_NEWS_MS, "daemonAway");
  if (!$("away").hidden) back();
  showMachine(report);
}

// The line to the server: what was missed while it was down is caught up with.
function reached(there) {
  clearTimeout(patience);
  if (!there) return away("offline");
  back();
}

function away(key) {
  $("model").classList.add("away");
  $("away-text").textContent = say(key);
  $("away").hidden = false;
}

function back() {
  const was = !$("away").hidden;
  $("model").classList.remove("away");
  $("away").hidden = true;
  if (was) notice(say("back"));
  catchUp().catch(complain);
}

// The language

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    switchLanguage();
    showLanguage();
    tell("");
    if (state.me) { showPresets(); showShapes(); }
    changed();
  });
}

function showLanguage() {
  for (const button of document.querySelectorAll("[data-language]")) {
    button.textContent = say("language");
    button.lang = document.documentElement.lang === "en" ? "zh" : "en";
  }
}

for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
// A click on what is behind a dialog closes it, unless there is nothing to go on with.
for (const dialog of document.querySelectorAll("dialog:not(#login)")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

translate();
showLanguage();
changed();
enter();
