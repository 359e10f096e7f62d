// What each preset would take for these pictures at this size, asked anew whenever something that counts has changed.
import { Refused, post } from "./api.js";
import { $ } from "./dom.js";
import { fromText } from "./made.js";
import { showNotes } from "./messages.js";
import { options } from "./options.js";
import { asRedraw } from "./redraw.js";
import { sizeLikeFirst } from "./sizing.js";
import { state, whenChanged } from "./state.js";
import { duration, explained, say } from "./words.js";

const CALM_MS = 250;
let calm = 0, last = "", round = 0;

whenChanged(() => {
  showMore();
  const question = state.me && JSON.stringify([state.pictures.map((each) => [each.width, each.height]), wanted(), document.documentElement.lang]);
  if (!question || question === last) return;
  last = question;
  clearTimeout(calm);
  calm = setTimeout(ask, CALM_MS);
});

const wanted = () => (state.redrawing ? asRedraw(options()) : options());

let quoted = null;
async function ask() {
  const mine = ++round;
  if (!state.pictures.length && !fromText()) { quoted = null; return showMore(); }
  const pictures = fromText() ? [] : state.pictures;
  const sizes = pictures.map((each) => [each.width, each.height]);
  const { size: asked, lora, seed: _, preset: chosen, ...own } = wanted();
  const size = asked || (!own.redraw && pictures.length ? await sizeLikeFirst(pictures).catch(() => "") : "");
  if (mine !== round) return;
  const sides = size ? { width: Number(size.split("x")[0]), height: Number(size.split("x")[1]) } : {};
  const canvas = own.redraw ? { redraw: own.redraw, canvas_size: sizes[0] } : {};
  const loras = lora ? { loras: [...state.loras] } : {};
  await Promise.all([...$("presets").children].map(async (button) => {
    const name = button.dataset.preset;
    // Steps and guidance of one's own go with the chosen preset only.
    const answer = await post("/api/quote", { sizes, ...(name === chosen ? own : { on_cap: "fit" }), ...loras, ...sides, ...canvas, preset: name })
      .catch((error) => (error instanceof Refused ? { refused: error } : null));
    if (!answer || mine !== round) return;
    if (!answer.refused) button.querySelector("small").textContent = `${say("stepsOf", { n: answer.steps })} · ${duration(answer.milliseconds)}`;
    if (name !== chosen) return;
    quoted = answer.refused ? null : answer;
    if (!state.runs.size && !state.sending) showNotes(answer.refused ? [explained(answer.refused)] : answer.warnings ?? []);
    showMore();
  }));
}

function showMore() {
  const seed = $("seed").value.trim();
  $("more-line").textContent = [
    quoted ? say("exact", { w: quoted.width, h: quoted.height }) : "", seed ? say("seedLocked", { n: seed }) : say("seedRandom"),
  ].filter(Boolean).join(" · ");
}
