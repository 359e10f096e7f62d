// The pictures that the model will see: dropped, pasted or chosen, and numbered in its order.
import { Unreachable } from "./api.js";
import { $, element, iconButton } from "./dom.js";
import { fromText } from "./made.js";
import { complain, notice, wrong } from "./messages.js";
import { restoreSettings } from "./options.js";
import { KINDS, MOST_BYTES, kindOf, kindsTaken, pictureOf } from "./picture_file.js";
import { startAfresh } from "./session.js";
import { settingsIn } from "./settings.js";
import { changed, state, whenChanged } from "./state.js";
import { either, say } from "./words.js";

/** @param {Blob[]} files @param {{settings?: boolean}} how whether the settings that a file brings count */
export async function take(files, { settings = true } = {}) {
  for (const file of files) if (!(await takeOne(file, settings))) break;
  changed();
}

// Whether there may be room for another one.
async function takeOne(file, read) {
  const name = file.name || say("clipboard"), first = !state.pictures.length;
  const most = state.me?.max_images ?? 3;
  if (!(await kindOf(file))) { wrong("notPicture", { name, kinds: names() }); return true; }
  if (file.size > MOST_BYTES) { wrong("tooLarge", { name }); return true; }
  const settings = read ? await settingsIn(file) : null;
  const offer = () => notice(say("settingsThere"), { text: say("settingsUse"), act: () => restoreSettings(settings) });
  if (state.pictures.length >= most) {
    if (settings) offer(); else wrong(fromText() ? "takesNone" : "tooMany", { n: most });
    return false;
  }
  const picture = await pictureOf(file).catch((error) => {
    if (error instanceof Unreachable || error.code === "unsupported_picture") complain(error); else wrong("broken", { name });
  });
  if (!picture) return true;
  if (first) startAfresh();
  state.pictures.push(picture);
  if (settings && first) restoreSettings(settings);
  else if (settings) offer();
  return true;
}

function names() { return either(kindsTaken().map((kind) => KINDS[kind].name)); }

function removeAt(index) {
  state.pictures.splice(index, 1);
  if (index === 0) startAfresh();
  changed();
}

function moveForward(index) {
  const [picture] = state.pictures.splice(index, 1);
  state.pictures.splice(index - 1, 0, picture);
  changed();
}

// "picture 2" at the cursor of the prompt, which is how the model is told of it.
function mention(number) {
  const prompt = $("prompt");
  const words = say("pictureN", { n: number });
  const before = prompt.value.slice(0, prompt.selectionStart);
  prompt.setRangeText(before && !/\s$/.test(before) ? ` ${words}` : words, prompt.selectionStart, prompt.selectionEnd, "end");
  prompt.focus();
}

function item(picture, index) {
  const made = element("div", "", "ref");
  const image = element("button", "", "see");
  image.type = "button";
  image.title = say("mention", { n: index + 1 });
  image.setAttribute("aria-label", image.title);
  image.style.backgroundImage = `url(${picture.url})`;
  image.addEventListener("click", () => mention(index + 1));
  const away = iconButton("close", say("remove", { n: index + 1 }), "away");
  away.addEventListener("click", () => removeAt(index));
  made.append(image, element("em", index ? String(index + 1) : say("canvas")), away);
  if (index > 1) {
    const forward = iconButton("left", say("earlierPlace", { n: index + 1 }), "forward");
    forward.addEventListener("click", () => moveForward(index));
    made.append(forward);
  }
  return made;
}

whenChanged(() => {
  const items = state.pictures.map(item);
  if (items.length < (state.me?.max_images ?? 3)) {
    const slot = element("button", say("slot"), "slot");
    slot.type = "button";
    slot.addEventListener("click", () => $("file").click());
    items.push(slot);
  }
  $("refs").replaceChildren(...items);
  $("file").accept = kindsTaken().map((kind) => KINDS[kind].accept).join();
  $("drop-hint").textContent = say("dropHint", { kinds: names() });
});

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { take([...$("file").files]).catch(complain); $("file").value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]).catch(complain);
  });
}
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) { event.preventDefault(); take(files).catch(complain); }
});
