// Keys for what is done often, and the list of them.
import { forgetToken } from "./api.js";
import { mask, resizeBrush, setMasking } from "./brush.js";
import { $, element } from "./dom.js";
import { forgetAll } from "./keeping.js";
import { startAfresh, undo } from "./session.js";
import { changed, state } from "./state.js";
import { openMenu, toggleCompare } from "./tools.js";
import { say } from "./words.js";

const APPLE = /Mac|iPhone|iPad/.test(navigator.platform);
export const SUBMIT = APPLE ? "⌘ ⏎" : "Ctrl ⏎";

const PLAIN = {
  b: () => $("tool-mask").click(), r: () => $("tool-redraw").click(), c: toggleCompare, s: () => openMenu(true), "[": () => resizeBrush(0.8), "]": () => resizeBrush(1.25), "?": showHelp,
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key === "Enter") { event.preventDefault(); return $("form").requestSubmit(); }
  if (event.key === "Escape" && state.masking) return setMasking(false);
  if (event.target.matches("input:not([type=range]), textarea, select")) return;
  if (command && event.key === "z") {
    event.preventDefault();
    if (state.masking) { mask.undo(); changed(); } else undo();
  } else if (!command && !event.altKey) PLAIN[event.key]?.();
});

export function showHelp() {
  const keys = [
    [SUBMIT, "keyEdit"], ["B", "keyMask"], ["R", "redrawTool"], ["[  ]", "keySize"], [`${say("mouse")}, ${say("space")}`, "keyPaint"], ["Esc", "keyEscape"], ["C", "keyCompare"],
    ["←  →", "keySplit"], [APPLE ? "⌘ Z" : "Ctrl Z", "keyUndo"], ["S", "keySave"], ["?", "keyHelp"],
  ];
  $("keys-list").replaceChildren(...keys.flatMap(([key, word]) => {
    const name = element("dt");
    name.append(element("kbd", key));
    return [name, element("dd", say(word))];
  }));
  $("keys").showModal();
}
$("help").addEventListener("click", showHelp);
$("sign-out").addEventListener("click", async () => {
  forgetToken();
  startAfresh();
  await forgetAll();
  location.reload();
});
$("edit-key").textContent = SUBMIT;
