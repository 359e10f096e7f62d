// LoRAs, which people know as styles: chosen by name, each with its strength.
import { get } from "./api.js";
import { $, element } from "./dom.js";
import { changed, state, whenChanged } from "./state.js";
import { say } from "./words.js";

const FEW = 6;
let all = false;

export async function loadStyles() {
  const { loras } = await get("/api/loras").catch(() => ({ loras: [] }));
  // Distilled ones belong to presets.
  state.known = loras.filter((lora) => !lora.problem && !lora.steps).map((lora) => lora.name);
}

function pill(name) {
  const made = element("span", "", "pill");
  const on = state.loras.has(name);
  const toggle = element("button", name.split("/").at(-1));
  toggle.type = "button";
  toggle.title = name;
  toggle.dataset.lora = name;
  toggle.setAttribute("aria-pressed", String(on));
  made.classList.toggle("on", on);
  toggle.addEventListener("click", () => {
    if (on) state.loras.delete(name); else state.loras.set(name, 1);
    changed();
    $("loras").querySelector(`[data-lora="${CSS.escape(name)}"]`)?.focus();
  });
  made.append(toggle);
  if (!on) return made;
  const strength = element("input");
  Object.assign(strength, { type: "number", min: -4, max: 4, step: 0.1, value: state.loras.get(name), inputMode: "decimal" });
  strength.setAttribute("aria-label", say("strength", { name }));
  strength.addEventListener("change", () => { state.loras.set(name, Number(strength.value)); changed(); });
  made.append(strength);
  return made;
}

whenChanged(() => {
  $("styles").hidden = !state.known.length;
  if ($("loras").contains(document.activeElement) && document.activeElement.matches("input")) return;  // being typed into
  const shown = all || state.known.length <= FEW + 1 ? state.known : state.known.filter((name, index) => index < FEW || state.loras.has(name));
  const items = shown.map(pill);
  if (state.known.length > FEW + 1) {
    const rest = element("button", all ? say("fewerStyles") : say("moreStyles", { n: state.known.length - shown.length }), "pill");
    rest.type = "button";
    rest.setAttribute("aria-expanded", String(all));
    rest.addEventListener("click", () => { all = !all; changed(); });
    items.push(rest);
  }
  $("loras").replaceChildren(...items);
});
