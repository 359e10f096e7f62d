// The brush and its settings, while the mask is painted.
import { $ } from "./dom.js";
import { Mask } from "./mask.js";
import { changed, state, whenChanged } from "./state.js";

export const mask = new Mask($("paint"), $("ring"));

export function setMasking(on) {
  state.masking = on && state.pictures.length > 0;
  if (state.masking) state.watched = null;  // the picture that is painted on stays
  changed();
  if (state.masking) $("paint").focus({ preventScroll: true });
  else $(state.redrawing ? "tool-redraw" : "tool-mask").focus({ preventScroll: true });
}

export function resizeBrush(factor) {
  const size = Math.min(200, Math.max(4, Math.round(mask.size * factor)));
  $("brush-size").value = size;
  showSize(size);
}

/** Paint as the sliders say. */
export function readBrush() {
  showSize(Number($("brush-size").value));
  soften(Number($("brush-feather").value));
}

function soften(pixels) { mask.soften(pixels); $("brush-feather-now").textContent = pixels; }
function showSize(size) { mask.resize(size); $("brush-size-now").textContent = size; }

function setErasing(on) {
  mask.erasing = on;
  $("brush-erase").setAttribute("aria-pressed", String(on));
}

function setBoxes(on) {
  mask.boxes = on;
  $("brush-box").setAttribute("aria-pressed", String(on));
}

whenChanged(() => {
  const [first] = state.pictures;
  if (first) mask.of(first);
  if (!first) state.masking = false;
  $("paint").hidden = !first || (!state.masking && !mask.steps.length) || !$("forming").hidden;
  $("paint").classList.toggle("live", state.masking);
  $("paint").tabIndex = state.masking ? 0 : -1;
  $("brush").hidden = !state.masking;
  $("tool-mask").setAttribute("aria-pressed", String(state.masking && !state.redrawing));
});

/** Paint what an edit may change, or stop painting. */
function toggleMask() {
  const on = !state.masking || state.redrawing;
  state.redrawing = false;
  setMasking(on);
}

$("tool-mask").addEventListener("click", toggleMask);
$("brush-box").addEventListener("click", () => setBoxes(!mask.boxes));
$("brush-size").addEventListener("input", (event) => showSize(Number(event.target.value)));
$("brush-feather").addEventListener("input", (event) => soften(Number(event.target.value)));
$("brush-erase").addEventListener("click", () => setErasing(!mask.erasing));
$("brush-invert").addEventListener("click", () => mask.invert());
$("brush-undo").addEventListener("click", () => mask.undo());
$("brush-clear").addEventListener("click", () => mask.clear());
$("brush-done").addEventListener("click", () => setMasking(false));
