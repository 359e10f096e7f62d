// Enlarging the result by an upscaling model of the server, where it has any.
import { get } from "./api.js";
import { $, element } from "./dom.js";
import { changed } from "./state.js";

let known = [];

export async function loadUpscalers() {
  const chosen = $("upscale").value;
  ({ upscalers: known } = await get("/api/upscalers").catch(() => ({ upscalers: [] })));
  const items = known.map(({ name, scale }) => Object.assign(element("option", `${scale}× · ${name.split("/").at(-1)}`), { value: name }));
  $("upscale").replaceChildren($("upscale").options[0], ...items);
  $("upscale-field").hidden = !known.length;
  chooseUpscaler(chosen);
}

/** Choose a model by its name; one that the server does not have is none. */
export function chooseUpscaler(name) {
  $("upscale").value = known.some((each) => each.name === name) ? name : "";
}

$("upscale").addEventListener("change", changed);
