// The stage: the picture before, the one after with a slider between them, and the one that forms.
import { $ } from "./dom.js";
import { changed, state, whenChanged } from "./state.js";
import { say } from "./words.js";

const ALIKE = 0.03;  // sides rounded to the model's grid differ by less; other shapes are not stretched over each other
const KEYS = { ArrowLeft: -20, ArrowDown: -20, ArrowRight: 20, ArrowUp: 20, PageDown: -100, PageUp: 100 };

class Viewer {
  constructor() {
    this.comparing = true;
    $("split").addEventListener("input", () => this.#cut());
    $("split").addEventListener("keydown", (event) => {
      if (!KEYS[event.key]) return;
      event.preventDefault();
      $("split").value = Number($("split").value) + KEYS[event.key];
      this.#cut();
    });
    $("forming").addEventListener("load", () => {
      const { naturalWidth: width, naturalHeight: height } = $("forming"), [first] = state.pictures;
      if (first) $("forming").classList.toggle("unlike", Math.abs((width / height / first.width) * first.height - 1) > 4 * ALIKE);  // it is small
    });
    whenChanged(() => this.#show());
  }

  compare(on) { this.comparing = on; this.#show(); }

  /** @param {string | null} address the picture as it forms, shown over the one that is edited; null for none */
  forming(address) {
    if (address) $("forming").src = address;
    if ($("forming").hidden === !address) return;
    $("forming").hidden = !address;
    if (!address) $("forming").removeAttribute("src");
    changed();  // the mask, too, is not shown over it
  }

  #show() {
    const [first] = state.pictures;
    $("canvas").hidden = !first;
    $("empty").hidden = Boolean(first);
    if (!first) return;
    const shown = state.shown?.picture === first ? state.shown : null;
    const ratio = first.width / first.height;
    $("canvas").style.setProperty("--ratio", ratio);
    const before = shown?.base ?? first;
    $("canvas").classList.toggle("unlike", Math.abs(before.width / before.height / ratio - 1) > ALIKE);
    if ($("before").src !== before.url) $("before").src = before.url;
    $("after").hidden = !shown;
    if (shown && $("after").src !== first.url) $("after").src = first.url;
    const split = Boolean(shown) && this.comparing && !state.masking && $("forming").hidden;
    $("split").hidden = $("handle").hidden = $("tag-before").hidden = !split;
    if (split) this.#cut(); else $("after").style.clipPath = "none";
    const size = `${first.width} × ${first.height}`;
    $("tag-after").hidden = !$("forming").hidden;
    $("tag-after").textContent = shown ? `${split ? `${say("after")} · ` : ""}${size} · ${say("seedTag", { n: shown.seed })}` : size;
    $("before").alt = shown ? "" : say("original");
    $("after").alt = shown ? say("after") : "";
  }

  #cut() {
    const share = $("split").value / 10;
    $("after").style.clipPath = `inset(0 0 0 ${share}%)`;
    $("handle").style.left = `${share}%`;
    $("split").setAttribute("aria-valuetext", say("shareBefore", { p: Math.round(share) }));
  }
}

export const viewer = new Viewer();
