// How the edit is made: the preset, size, seed, steps and guidance, as the person chose them or as a file brings them back.
import { readBrush } from "./brush.js";
import { $, element } from "./dom.js";
import { chooseUpscaler } from "./enlarging.js";
import { fromText } from "./made.js";
import { notice } from "./messages.js";
import { changed, entered, state, whenChanged } from "./state.js";
import { say } from "./words.js";

const SHAPES = [[1, 1], [4, 3], [3, 4], [3, 2], [2, 3], [16, 9], [9, 16]];
const DRAFT = "qied.draft";
const FIELDS = [
  "prompt", "negative", "seed", "steps", "cfg", "refine", "compat", "aspect", "upscale", "count",
  "brush-size", "brush-feather", "brush-strength",
];
const KONTEXT = "kontext";
const NAMES = { preview: "preview", draft: "draft", final: "final" };

/** The fields of an edit's form; what is not chosen is left to the server. */
export function options() {
  const chosen = { on_cap: "fit" };
  if (state.preset) chosen.preset = state.preset;
  if ($("steps").value) chosen.steps = Number($("steps").value);
  if ($("cfg").value) chosen.true_cfg_scale = Number($("cfg").value);
  if ($("refine").value) chosen.refine = Number($("refine").value);
  if ($("seed").value.trim()) chosen.seed = $("seed").value.trim();
  if ($("negative").value.trim()) chosen.negative_prompt = $("negative").value.trim();
  if ($("compat").value) chosen.compat = $("compat").value;
  // A size of ComfyUI's goes with its way alone.
  if ($("aspect").value && ($("aspect").value !== KONTEXT || chosen.compat)) chosen.size = $("aspect").value;
  if ($("upscale").value) chosen.upscale = $("upscale").value;
  if (state.loras.size) chosen.lora = JSON.stringify([...state.loras].map(([name, scale]) => ({ name, scale })));
  return chosen;
}

// Presets

export function showPresets() {
  const presets = [...state.me.presets].sort((one, other) => one.steps - other.steps);
  if (!presets.some((preset) => preset.name === state.preset)) state.preset = (presets.find((preset) => preset.default) ?? presets[0])?.name ?? null;
  $("presets").replaceChildren(...presets.map((preset) => {
    const button = element("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.dataset.preset = preset.name;
    button.append(element("b", NAMES[preset.name] ? say(NAMES[preset.name]) : preset.name), element("small", say("stepsOf", { n: preset.steps })));
    button.addEventListener("click", () => choosePreset(preset.name));
    return button;
  }));
  markPreset();
}

function markPreset() {
  for (const button of $("presets").children) {
    const on = button.dataset.preset === state.preset;
    button.setAttribute("aria-checked", String(on));
    button.tabIndex = on ? 0 : -1;
  }
}

// A preset stands for its own steps and guidance, so that others are let go.
function choosePreset(name) {
  state.preset = name;
  $("steps").value = $("cfg").value = "";
  markPreset();
  changed();
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

// Sizes

export function showShapes() {
  const { max_pixels: most, side_multiple: step } = state.me;
  const chosen = $("aspect").value;
  const items = [[say(fromText() ? "ownSize" : "asPicture"), ""]];
  for (const [wide, high] of SHAPES) {
    const unit = Math.sqrt(Math.min(most, 2 ** 20) / (wide * high));
    const sides = [wide, high].map((side) => Math.max(step, Math.floor((side * unit) / step) * step));
    items.push([`${wide}:${high} · ${sides.join(" × ")}`, sides.join("x")]);
  }
  $("aspect").replaceChildren(...items.map(([text, value]) => Object.assign(element("option", text), { value })));
  chooseSize(chosen);
}

function chooseSize(size) {
  if (size && ![...$("aspect").options].some((option) => option.value === size)) {
    $("aspect").append(Object.assign(element("option", `${say("asSaved")} · ${size.replace("x", " × ")}`), { value: size }));
  }
  $("aspect").value = size;
}

// The way that it is done: ComfyUI's, where its noise, sizes and steps are wanted, with settings that a file may bring.

function chooseCompat(way) {
  if (![...$("compat").options].some((option) => option.value === way)) {
    $("compat").append(Object.assign(element("option", `${say("asSaved")} · ${way}`), { value: way }));
  }
  $("compat").value = way;
}

// Seeds: a field that is empty stands for a random one; the lock keeps the one of the picture that is shown.

function lockSeed() {
  const field = $("seed");
  field.value = field.value.trim() ? "" : state.shown?.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] % 2 ** 31;
  changed();
}
$("seed-lock").addEventListener("click", lockSeed);
whenChanged(() => { $("seed-lock").setAttribute("aria-pressed", String(Boolean($("seed").value.trim()))); });

// What is remembered: the settings of a file, and the draft of this tab over a reload.

export async function restoreSettings(settings) {
  await entered;  // a file may be dropped before the server has told its presets and styles
  const known = state.me?.presets.find((preset) => preset.name === settings.preset);
  if (known) { state.preset = known.name; markPreset(); }
  $("prompt").value = settings.prompt;
  $("negative").value = settings.negative_prompt ?? "";
  $("steps").value = settings.steps ?? "";
  $("cfg").value = settings.true_cfg_scale ?? "";
  $("seed").value = settings.seed ?? "";
  chooseCompat(settings.compat ?? "");
  // A size by a rule need not be one that can be asked for.
  if (settings.size) chooseSize(settings.size === "same" || (settings.size === KONTEXT && settings.compat) ? settings.size : "");
  else if (settings.width && settings.height) chooseSize([settings.width, settings.height].map((side) => side / (settings.upscale_by ?? 1)).join("x"));
  chooseUpscaler(settings.upscale ?? "");
  const loras = settings.loras ?? [];
  const missing = loras.map(([name]) => name).filter((name) => !state.known.includes(name));
  state.loras = new Map(loras.filter(([name]) => !missing.includes(name)));
  notice([say("settingsBack"), missing.length ? say("lorasMissing", { names: missing.join(", ") }) : ""].join(" ").trim());
  changed();
}

export function keepDraft() {
  const fields = Object.fromEntries(FIELDS.map((id) => [id, $(id).value]));
  sessionStorage.setItem(DRAFT, JSON.stringify({ user: state.me.user, fields, preset: state.preset, loras: [...state.loras] }));
}

export function restoreDraft() {
  const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
  if (draft?.user !== state.me.user) return;
  const { aspect, compat = "", ...others } = draft.fields;
  for (const [id, value] of Object.entries(others)) if ($(id)) $(id).value = value;
  chooseSize(aspect);
  chooseCompat(compat);
  readBrush();
  if (state.me.presets.some((preset) => preset.name === draft.preset)) { state.preset = draft.preset; markPreset(); }
  state.loras = new Map(draft.loras.filter(([name]) => state.known.includes(name)));
}
addEventListener("pagehide", () => { if (state.me) keepDraft(); });
// A phone may end a page that is out of sight without a word.
document.addEventListener("visibilitychange", () => { if (state.me && document.hidden) keepDraft(); });

for (const id of ["aspect", "steps", "cfg", "refine", "compat", "negative", "seed"]) $(id).addEventListener("change", changed);
