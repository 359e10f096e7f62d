// A part of the picture drawn again: what is painted or framed says which, a slider says how much of it is new.
import { $ } from "./dom.js";
import { setMasking } from "./brush.js";
import { changed, state, whenChanged } from "./state.js";
import { say } from "./words.js";

/** Turn redrawing on, with the brush in hand, or off. */
function setRedrawing(on) {
  state.redrawing = on && state.pictures.length > 0;
  setMasking(state.redrawing);
}

/**
 * The fields of a redraw: its result has the picture's own size, and nothing but the part is drawn.
 * @param {object} chosen the fields of an edit
 */
export function asRedraw({ size: _, refine: __, ...chosen }) {
  const feather = Number($("brush-feather").value);
  return { ...chosen, redraw: [{ strength: Number($("brush-strength").value) / 100, ...(feather ? { feather } : {}) }] };
}

/** The prompt of the picture that is shown, for a redraw that has none of its own. */
export const shownPrompt = () => state.session?.turns.find((row) => row.turn === state.current)?.prompt ?? "";

function showStrength() { $("brush-strength-now").textContent = `${$("brush-strength").value} %`; }

// A redraw always fades a little: 0 leaves it to the server how much.
function showFeather() {
  const { value } = $("brush-feather");
  $("brush-feather-now").textContent = state.redrawing && value === "0" ? say("auto") : value;
}

whenChanged(() => {
  if (!state.pictures.length) state.redrawing = false;
  $("tool-redraw").setAttribute("aria-pressed", String(state.redrawing));
  $("strength").hidden = !state.redrawing;
  $("edit-word").textContent = say(state.redrawing ? "redraw" : $("edit-word").dataset.words);
  showStrength();
  showFeather();
});

$("tool-redraw").addEventListener("click", () => setRedrawing(!state.redrawing));
$("brush-feather").addEventListener("input", showFeather);
$("brush-strength").addEventListener("input", showStrength);
$("brush-strength").addEventListener("change", changed);
