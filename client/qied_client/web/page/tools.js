// The tools next to the picture: compare, use it further, and save it in one of three formats.
import { getBlob } from "./api.js";
import { $, element } from "./dom.js";
import { complain } from "./messages.js";
import { take } from "./pictures.js";
import { fromText } from "./made.js";
import { pictureAt } from "./session.js";
import { state, whenChanged } from "./state.js";
import { viewer } from "./viewer.js";

export function toggleCompare() {
  viewer.compare(!viewer.comparing);
  $("tool-compare").setAttribute("aria-pressed", String(viewer.comparing));
}
$("tool-compare").addEventListener("click", toggleCompare);

$("tool-next").addEventListener("click", () => {
  const { blob } = state.pictures[0];
  // Only the picture: how it was made is known here.
  take([blob], { settings: false }).catch(complain);
});

whenChanged(() => {
  $("tools").hidden = !state.pictures.length;
  $("tool-undo").disabled = !state.session || state.current === 0 || fromText();
  $("tool-mask").disabled = $("tool-redraw").disabled = fromText();
  $("tool-compare").disabled = !state.shown;
  $("tool-save").disabled = !state.session || state.current === 0;
  $("tool-next").disabled = state.pictures.length >= (state.me?.max_images ?? 3);
});

export function openMenu(open) {
  if ($("save-menu").hidden === !open || (open && $("tool-save").disabled)) return;
  $("save-menu").hidden = !open;
  $("tool-save").setAttribute("aria-expanded", String(open));
  (open ? $("save-menu").firstElementChild : $("tool-save")).focus();
}
$("tool-save").addEventListener("click", () => openMenu($("save-menu").hidden));
document.addEventListener("pointerdown", (event) => { if (!event.target.closest("#save-menu, #tool-save")) openMenu(false); });
$("save-menu").addEventListener("keydown", (event) => {
  if (event.key === "Escape" || event.key === "Tab") { event.preventDefault(); return openMenu(false); }
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const items = [...$("save-menu").children];
  items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
});
for (const item of $("save-menu").children) item.addEventListener("click", () => { openMenu(false); save(item.dataset.format); });

async function save(format) {
  try {
    const blob = await getBlob(`${pictureAt(state.current)}?format=${format}`);
    const link = element("a");
    link.href = URL.createObjectURL(blob);
    link.download = `qied-${state.shown?.seed ?? state.session.name ?? "picture"}-${state.current}.${format === "jpeg" ? "jpg" : format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) { complain(error); }
}
