// The page: what the person has chosen, what the server says, and how one becomes the other.
import { Refused, forgetToken, get, getBlob, listen, post, rememberToken, token } from "./api.js";
import { History } from "./history.js";
import { Machine, element } from "./machine.js";
import { Mask } from "./mask.js";
import { settingsIn } from "./settings.js";
import { Viewer } from "./viewer.js";
import { currentLanguage, duration, say, switchLanguage, translate } from "./words.js";

const $ = (id) => document.getElementById(id);
const MOST_BYTES = 64 * 2 ** 20;
const KINDS = ["image/png", "image/jpeg", "image/webp"];
const PHASES = { encode_prompt: "reading", encode_image: "looking", prepare_steps: "preparing", decode: "finishing" };
const SHAPES = [[1, 1], [4, 3], [3, 4], [3, 2], [2, 3], [16, 9], [9, 16]];

const state = {
  me: null,
  session: null,       // { name, head, turns } of the server; null before the first picture was sent
  current: 0,          // the turn that is shown, and that the next edit edits
  pictures: [],        // what the model sees: { blob, url, width, height }; the first is the canvas
  first: null,         // the picture that the session is opened with
  running: new Map(),  // live jobs of this session: job -> { turn, prompt, done, total, left, preview, ... }
  preset: null,
  loras: new Map(),
  lockedSeed: false,
  quoted: new Map(),
  masking: false,
};

const viewer = new Viewer({
  stage: $("stage"), canvas: $("canvas"), empty: $("empty"), before: $("before"), after: $("after"), forming: $("forming"),
  split: $("split"), handle: $("handle"), tagBefore: $("tag-before"), tagAfter: $("tag-after"),
});
const mask = new Mask($("paint"));
const strip = new History($("strip"), choose);
const machine = new Machine(
  { button: $("machine"), line: $("machine-line"), bar: $("machine-bar"), size: $("machine-size"), dialog: $("owner"), body: $("owner-body") },
  complain,
);

// Who is here

async function enter() {
  if (!token()) return askForToken();
  try {
    state.me = await get("/api/me");
  } catch (error) {
    if (error instanceof Refused && [401, 403].includes(error.status)) return askForToken(error.status === 401 ? say("badToken") : error.message);
    complain(error);
    return void setTimeout(enter, 2000);
  }
  if ($("login").open) $("login").close();
  machine.owner = state.me.owner;
  $("user").textContent = state.me.user;
  showModel();
  showPresets();
  await showLoras();
  showShapes();
  listen("/api/events", heard, reached);
  await restore();
}

function askForToken(problem = "") {
  $("login-error").textContent = problem;
  $("login-error").hidden = !problem;
  if (!$("login").open) $("login").showModal();
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  rememberToken($("token").value.trim());
  $("token").value = "";
  enter();
});
$("login").addEventListener("cancel", (event) => event.preventDefault());

function reached(there, error = null) {
  $("model").classList.toggle("away", !there);
  if (error) { forgetToken(); askForToken(say("badToken")); } else if (!there) complain(new Error(say("offline"))); else quiet();
}

// What the server says

function heard(name, data) {
  if (name === "status") return heardStatus(data);
  if (name === "job") return heardProgress(data);
  if (name === "outcome") return void heardOutcome(data);
}

function heardStatus(report) {
  if (!report.reachable) { $("model").classList.add("busy"); return complain(new Error(report.error.message)); }
  $("model").classList.remove("busy");
  machine.show(report);
}

function heardProgress(news) {
  const run = state.running.get(news.job);
  if (!run) return;
  Object.assign(run, { kind: news.kind, place: news.place ?? null, starts: news.starts_in_ms ?? null, note: news.note ?? "" });
  if (news.phase) run.phase = news.phase;
  if (news.total) { run.done = news.done; run.total = news.total; }
  if (news.remaining_ms !== undefined) run.left = news.remaining_ms;
  if (news.preview) run.preview = `data:image/jpeg;base64,${news.preview}`;
  showRun();
}

async function heardOutcome(outcome) {
  const run = state.running.get(outcome.job);
  if (!run) return;
  state.running.delete(outcome.job);
  showRun();
  await refresh();
  if (outcome.state === "succeeded") {
    if (!state.running.size || run.last) await choose(run.turn);
    showNotes(outcome.warnings ?? []);
  } else if (outcome.state !== "cancelled") complain(new Error(`${outcome.message ?? say("failed")} ${outcome.remedy ?? ""}`.trim()));
}

// Pictures

async function take(files) {
  for (const file of files) {
    if (!KINDS.includes(file.type)) { complain(new Error(say("notPicture", { name: file.name || say("picture") }))); continue; }
    if (file.size > MOST_BYTES) { complain(new Error(say("tooLarge", { name: file.name }))); continue; }
    const most = state.me?.max_images ?? 3;
    if (state.pictures.length >= most) { complain(new Error(say("tooMany", { n: most }))); break; }
    const settings = await settingsIn(file);
    if (settings) restoreSettings(settings);
    const picture = await pictureOf(file).catch(() => null);
    if (!picture) { complain(new Error(say("notPicture", { name: file.name || say("picture") }))); continue; }
    if (!state.pictures.length) { state.first = picture; state.session = null; state.current = 0; remember(null); }
    state.pictures.push(picture);
  }
  showAll();
}

async function pictureOf(blob) {
  const url = URL.createObjectURL(blob);
  const image = new Image();
  image.src = url;
  await image.decode();
  return { blob, url, width: image.naturalWidth, height: image.naturalHeight };
}

function drop(index) {
  URL.revokeObjectURL(state.pictures[index].url);
  state.pictures.splice(index, 1);
  if (index === 0) { state.session = null; state.current = 0; state.first = state.pictures[0] ?? null; remember(null); }
  showAll();
}

function restoreSettings(settings) {
  $("prompt").value = settings.prompt;
  $("negative").value = settings.negative_prompt ?? "";
  $("steps").value = settings.steps ?? "";
  $("cfg").value = settings.true_cfg_scale ?? "";
  $("seed").value = settings.seed ?? "";
  lockSeed(settings.seed !== undefined);
  state.loras = new Map((settings.loras ?? []).map(([name, strength]) => [name, strength]));
  drawLoras();
  const known = state.me?.presets.find((preset) => preset.name === settings.preset);
  if (known) choosePreset(known.name, false);
  notice(say("settingsBack"));
}

// The session

const path = (rest = "") => `/api/sessions/${encodeURIComponent(state.session.name)}${rest}`;

function remember(name) {
  if (name) localStorage.setItem("qied.session", name); else localStorage.removeItem("qied.session");
}

async function restore() {
  const name = localStorage.getItem("qied.session");
  if (!name) return showAll();
  try {
    state.session = await get(`/api/sessions/${encodeURIComponent(name)}`);
  } catch { remember(null); return showAll(); }
  for (const turn of state.session.turns) if (["waiting", "running"].includes(turn.state)) follow(turn.job, turn.turn, turn.prompt);
  state.first = await pictureOf(await getBlob(path("/turns/0/picture")));
  const done = state.session.turns.filter((turn) => turn.blob).map((turn) => turn.turn);
  await choose(done.includes(state.session.head) ? state.session.head : done.at(-1) ?? 0);
}

async function refresh() {
  if (!state.session) return;
  state.session = await get(path()).catch(() => state.session);
  strip.show(state.session, state.current);
}

function follow(job, turn, prompt, last = false) {
  state.running.set(job, { job, turn, prompt, done: 0, total: 0, left: null, kind: "queued", place: null, phase: "", preview: null, last });
}

async function choose(turn) {
  const row = state.session?.turns.find((each) => each.turn === turn);
  if (turn && !row?.blob) return;
  const load = async (number) => (number === 0 ? state.first : pictureOf(await getBlob(path(`/turns/${number}/picture`))));
  try {
    const shown = await load(turn);
    const base = turn ? await load(row.base) : null;
    state.current = turn;
    state.pictures = [shown, ...state.pictures.slice(1)];
    state.shown = { picture: shown, base, seed: row?.seed ?? null };
    if (row) $("prompt").placeholder = row.prompt;
    if (row && !state.lockedSeed) $("seed").value = "";
    showAll();
  } catch (error) { complain(error); }
}

// Editing

$("form").addEventListener("submit", (event) => { event.preventDefault(); edit(); });

async function edit() {
  if (!state.pictures.length) return complain(new Error(say("needPicture")));
  if (!$("prompt").value.trim()) { $("prompt").focus(); return complain(new Error(say("needPrompt"))); }
  quiet();
  showNotes([]);
  $("edit").disabled = true;
  try {
    if (!state.session) {
      const form = new FormData();
      form.append("image", state.first.blob);
      state.session = await post("/api/sessions", form);
      remember(state.session.name);
    }
    const form = await editForm();
    const answer = await post(path("/turns"), form, { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) });
    const prompt = $("prompt").value.trim();
    for (const [index, row] of answer.jobs.entries()) follow(row.job, row.turn, prompt, index === answer.jobs.length - 1);
    showNotes(answer.notes);
    setMasking(false);
    await refresh();
    showRun();
  } catch (error) { complain(error); }
  $("edit").disabled = false;
}

async function editForm() {
  const form = new FormData();
  form.append("prompt", $("prompt").value.trim());
  form.append("base", state.current);
  for (const picture of state.pictures.slice(1)) form.append("image", picture.blob);
  const painted = await mask.file();
  if (painted) { form.append("mask", painted); form.append("mask_mode", "white"); }
  for (const [name, value] of Object.entries(options())) form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  form.append("n", $("count").value);
  return form;
}

function options() {
  const chosen = { on_cap: "fit" };
  if (state.preset) chosen.preset = state.preset;
  if ($("steps").value) chosen.steps = Number($("steps").value);
  if ($("cfg").value) chosen.true_cfg_scale = Number($("cfg").value);
  if (state.lockedSeed && $("seed").value) chosen.seed = $("seed").value;
  if ($("negative").value.trim()) chosen.negative_prompt = $("negative").value.trim();
  if ($("aspect").value) chosen.size = $("aspect").value;
  if (state.loras.size) chosen.lora = JSON.stringify([...state.loras].map(([name, scale]) => ({ name, scale })));
  return chosen;
}

$("run-cancel").addEventListener("click", () => {
  for (const job of state.running.keys()) post(`/api/jobs/${encodeURIComponent(job)}/cancel`).catch(complain);
});

// What is shown

function showAll() {
  showRefs();
  $("tools").hidden = !state.pictures.length;
  if (!state.pictures.length) viewer.clear();
  else {
    const [first] = state.pictures;
    const compared = state.shown?.picture === first && state.shown.base ? state.shown : null;
    const label = compared ? `${say("after")} · ${first.width} × ${first.height}${compared.seed === null ? "" : ` · ${say("seed")} ${compared.seed}`}` : `${first.width} × ${first.height}`;
    viewer.show(compared ? compared.base.url : first.url, compared ? first.url : null, [first.width, first.height], label);
    viewer.compare($("tool-compare").getAttribute("aria-pressed") === "true");
    if (mask.of !== first) { mask.reset(first.width, first.height); mask.of = first; }
  }
  $("tool-undo").disabled = !state.session || state.current === 0;
  $("tool-save").disabled = !state.session || state.current === 0;
  strip.show(state.session, state.current);
  showRun();
  askPrices();
}

function showRefs() {
  const most = state.me?.max_images ?? 3;
  const items = state.pictures.map((picture, index) => {
    const item = element("div", "", "ref");
    const image = element("img");
    image.src = picture.url;
    image.alt = `${say("picture")} ${index + 1}`;
    const away = element("button", "×");
    away.type = "button";
    away.setAttribute("aria-label", `${say("remove")} ${index + 1}`);
    away.addEventListener("click", () => drop(index));
    item.append(image, element("em", index ? String(index + 1) : say("canvas")), away);
    return item;
  });
  if (items.length < most) {
    const slot = element("button", say("slot"), "slot");
    slot.type = "button";
    slot.addEventListener("click", () => $("file").click());
    items.push(slot);
  }
  $("refs").replaceChildren(...items);
}

function showRun() {
  const runs = [...state.running.values()];
  $("run").hidden = !runs.length;
  const run = runs.find((each) => each.kind !== "queued") ?? runs[0];
  if (!run) { viewer.formed(); document.title = "qied"; return; }
  $("run-title").textContent = runs.length > 1 ? `${run.prompt} ×${runs.length}` : run.prompt;
  const waits = run.kind === "queued" || run.kind === "requeued";
  $("run-step").textContent = waits ? (run.note || (run.place ? say("place", { n: run.place }) : say("waiting")))
    : run.total && run.phase !== "decode" && (run.kind === "step" || run.kind === "preview") ? say("stepOf", { n: run.done, m: run.total }) : say(PHASES[run.phase] ?? "running");
  $("run-left").textContent = waits ? (run.starts === null ? "" : say("startsIn", { t: duration(run.starts) })) : run.left === null ? "" : say("left", { t: duration(run.left) });
  const share = run.total ? run.done / run.total : 0;
  $("run-bar").value = 1000 * share;
  document.title = say("title", { p: Math.round(100 * share), t: run.prompt.slice(0, 40) });
  if (run.preview) viewer.forming(run.preview);
}

function showModel() {
  const { title, precision } = state.me;
  $("model-name").textContent = `${title} · ${precision.toUpperCase()}`;
}

function showPresets() {
  const presets = [...state.me.presets].sort((one, other) => one.steps - other.steps);
  state.preset ??= presets.find((preset) => preset.default)?.name ?? presets[0]?.name ?? null;
  $("presets").replaceChildren(...presets.map((preset) => {
    const button = element("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.title = preset.about;
    button.dataset.preset = preset.name;
    const name = { preview: say("preview"), draft: say("draft"), final: say("final") }[preset.name] ?? preset.name;
    button.append(element("b", name), element("small", say("stepsOf", { n: preset.steps })));
    button.addEventListener("click", () => choosePreset(preset.name));
    return button;
  }));
  choosePreset(state.preset, false);
}

function choosePreset(name, clearing = true) {
  state.preset = name;
  if (clearing) $("steps").value = $("cfg").value = "";
  for (const button of $("presets").children) {
    const on = button.dataset.preset === name;
    button.setAttribute("aria-checked", String(on));
    button.tabIndex = on ? 0 : -1;
  }
  askPrices();
}

$("presets").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const buttons = [...$("presets").children];
  const next = buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length];
  event.preventDefault();
  next.click();
  next.focus();
});

async function showLoras() {
  const { loras } = await get("/api/loras").catch(() => ({ loras: [] }));
  state.known = loras.filter((lora) => !lora.problem && !lora.steps).map((lora) => lora.name);
  drawLoras();
}

function drawLoras() {
  const names = state.known ?? [];
  $("styles").hidden = !names.length;
  $("loras").replaceChildren(...names.map((name) => {
    const pill = element("span", "", "pill");
    const toggle = element("button", name.split("/").at(-1));
    toggle.type = "button";
    toggle.title = name;
    const on = state.loras.has(name);
    toggle.setAttribute("aria-pressed", String(on));
    pill.classList.toggle("on", on);
    toggle.addEventListener("click", () => { if (on) state.loras.delete(name); else state.loras.set(name, 1); drawLoras(); });
    pill.append(toggle);
    if (on) {
      const strength = element("input");
      Object.assign(strength, { type: "number", min: -4, max: 4, step: 0.1, value: state.loras.get(name) });
      strength.setAttribute("aria-label", `${say("strength")} ${name}`);
      strength.addEventListener("change", () => state.loras.set(name, Number(strength.value)));
      pill.append(strength);
    }
    return pill;
  }));
}

function showShapes() {
  const { max_pixels: most, side_multiple: step } = state.me;
  const chosen = $("aspect").value;
  const items = [[say("asPicture"), ""]];
  for (const [wide, high] of SHAPES) {
    const unit = Math.sqrt(Math.min(most, 2 ** 20) / (wide * high));
    const sides = [wide, high].map((side) => Math.max(step, Math.floor((side * unit) / step) * step));
    items.push([`${wide}:${high} · ${sides.join(" × ")}`, sides.join("x")]);
  }
  $("aspect").replaceChildren(...items.map(([text, value]) => Object.assign(element("option", text), { value })));
  $("aspect").value = chosen;
}

// Prices: what each preset would take, for these pictures at this size.
let asking = 0;
function askPrices() {
  clearTimeout(asking);
  asking = setTimeout(async () => {
    if (!state.me || !state.pictures.length) return showMore(null);
    const sizes = state.pictures.map((picture) => [picture.width, picture.height]);
    const { size, lora, seed, preset: _, ...rest } = options();
    const sides = size ? { width: Number(size.split("x")[0]), height: Number(size.split("x")[1]) } : {};
    for (const button of $("presets").children) {
      const name = button.dataset.preset;
      const own = name === state.preset ? rest : { on_cap: "fit" };
      const quoted = await post("/api/quote", { sizes, ...own, ...sides, preset: name }).catch(() => null);
      if (!quoted) continue;
      button.querySelector("small").textContent = `${say("stepsOf", { n: quoted.steps })} · ${duration(quoted.milliseconds)}`;
      if (name === state.preset) { showMore(quoted); if (quoted.warnings?.length && !state.running.size) showNotes(quoted.warnings); }
    }
  }, 250);
}

function showMore(quoted) {
  const seed = state.lockedSeed && $("seed").value ? say("seedLocked", { n: $("seed").value }) : say("seedRandom");
  $("more-line").textContent = [quoted ? say("exact", { w: quoted.width, h: quoted.height }) : "", seed].filter(Boolean).join(" · ");
}

function showNotes(notes) {
  $("notes").hidden = !notes.length;
  $("notes").replaceChildren(...notes.map((note) => element("li", note)));
}

let quieting = 0;
function complain(error) {
  clearTimeout(quieting);
  $("toast").textContent = error.message;
  $("toast").hidden = false;
  quieting = setTimeout(quiet, 12000);
}
function notice(text) { complain(new Error(text)); }
function quiet() { $("toast").hidden = true; }

// Tools and keys

function setMasking(on) {
  state.masking = on && state.pictures.length > 0;
  $("paint").hidden = !state.masking && !mask.steps.length;
  $("paint").style.pointerEvents = state.masking ? "auto" : "none";
  $("brush").hidden = !state.masking;
  $("tool-mask").setAttribute("aria-pressed", String(state.masking));
  if (state.masking) viewer.compare(false);
}
mask.onChange = () => { if (!state.masking) $("paint").hidden = !mask.steps.length; };

$("tool-compare").addEventListener("click", () => {
  const on = $("tool-compare").getAttribute("aria-pressed") !== "true";
  $("tool-compare").setAttribute("aria-pressed", String(on));
  viewer.compare(on);
});
$("tool-mask").addEventListener("click", () => setMasking(!state.masking));
$("tool-undo").addEventListener("click", () => {
  const row = state.session?.turns.find((turn) => turn.turn === state.current);
  if (row) choose(row.base);
});
$("tool-next").addEventListener("click", () => { if (state.pictures.length) take([new File([state.pictures[0].blob], "turn.png", { type: state.pictures[0].blob.type })]); });
$("tool-save").addEventListener("click", () => openMenu($("save-menu").hidden));
for (const item of $("save-menu").children) item.addEventListener("click", () => { openMenu(false); save(item.dataset.format); });

function openMenu(open) {
  $("save-menu").hidden = !open;
  $("tool-save").setAttribute("aria-expanded", String(open));
  if (open) $("save-menu").firstElementChild.focus();
}

async function save(format) {
  try {
    const blob = await getBlob(path(`/turns/${state.current}/picture?format=${format}`));
    const link = element("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${state.session.name}-${state.current}.${format === "jpeg" ? "jpg" : format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) { complain(error); }
}

$("brush-size").addEventListener("input", (event) => { mask.size = Number(event.target.value); });
$("brush-feather").addEventListener("input", (event) => { mask.feather = Number(event.target.value); });
$("brush-erase").addEventListener("click", (event) => { mask.erasing = !mask.erasing; event.target.setAttribute("aria-pressed", String(mask.erasing)); });
$("brush-invert").addEventListener("click", () => mask.invert());
$("brush-undo").addEventListener("click", () => mask.undo());
$("brush-clear").addEventListener("click", () => mask.clear());

function lockSeed(on) {
  state.lockedSeed = on;
  $("seed-lock").setAttribute("aria-pressed", String(on));
  $("seed-lock").textContent = on ? "🔒" : "🎲";
  showMore(null);
}
$("seed-lock").addEventListener("click", () => {
  if (!$("seed").value && state.shown?.seed != null) $("seed").value = state.shown.seed;
  lockSeed(!state.lockedSeed);
  askPrices();
});
$("seed").addEventListener("input", () => lockSeed(Boolean($("seed").value)));
for (const id of ["aspect", "steps", "cfg", "negative"]) $(id).addEventListener("change", askPrices);

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { take([...$("file").files]); $("file").value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("stage").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
}
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) { event.preventDefault(); take(files); }
});
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") { event.preventDefault(); return $("form").requestSubmit(); }
  if (event.key === "Escape" && !$("save-menu").hidden) { openMenu(false); return $("tool-save").focus(); }
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "b") setMasking(!state.masking);
  else if (event.key === "[" || event.key === "]") {
    mask.size = Math.min(200, Math.max(4, Math.round(mask.size * (event.key === "]" ? 1.25 : 0.8))));
    $("brush-size").value = mask.size;
  } else if (event.key === "?") showHelp();
});

$("language").addEventListener("click", () => {
  switchLanguage();
  $("language").textContent = currentLanguage() === "zh" ? "EN" : "中文";
  $("language").lang = currentLanguage() === "zh" ? "en" : "zh";
  $("language").setAttribute("aria-label", $("language").textContent);
  if (state.me) { showPresets(); showShapes(); }
  showAll();
});

function showHelp() {
  const keys = [["Ctrl ⏎", "keyEdit"], ["B", "keyMask"], ["[ ]", "keySize"], ["← →", "keySplit"], ["?", "keyHelp"]];
  const items = keys.flatMap(([key, word]) => [element("dt", key), element("dd", say(word))]);
  const out = element("button", say("signOut"));
  out.addEventListener("click", () => { forgetToken(); location.reload(); });
  const last = element("dd");
  last.append(out);
  $("keys-list").replaceChildren(...items, element("dt"), last);
  $("keys").showModal();
}
$("help").addEventListener("click", showHelp);
for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());

translate();
lockSeed(false);
$("language").textContent = currentLanguage() === "zh" ? "EN" : "中文";
showRefs();
enter();
