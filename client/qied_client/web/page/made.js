// Pictures from text alone: where the model takes no picture, the strip shows the jobs that the server keeps.
import { get } from "./api.js";
import { state } from "./state.js";
import { translate } from "./words.js";

/** Whether the served model makes pictures from text alone. */
export const fromText = () => state.me?.max_images === 0;

const WORDS = { prompt: "promptText", promptHint: "promptTextHint", drop: "emptyText", edit: "make", newPicture: "anotherPicture" };

/** Say and show what belongs to a model that takes no picture. */
export function dressForText() {
  document.body.classList.toggle("from-text", fromText());
  if (!fromText()) return;
  for (const name of ["words", "hint", "title"]) {
    for (const item of document.querySelectorAll(`[data-${name}]`)) item.dataset[name] = WORDS[item.dataset[name]] ?? item.dataset[name];
  }
  translate();
}

/** What was made, in the shape of a session: each job is a turn that edited none. Rejects as `get` does. */
export async function madePictures() {
  const { jobs } = await get("/api/jobs");
  const rows = jobs.filter((job) => job.session === null).reverse();
  const turns = rows.map((job) => ({
    turn: job.number, base: null, job: job.id, prompt: job.prompt, seed: job.seed, state: job.state, blob: job.state === "succeeded" && job.bytes > 0,
  }));
  const head = turns.filter((turn) => turn.blob).at(-1)?.turn ?? 0;
  return { name: null, head, turns };
}

/** The address of a picture that was made, or of its thumbnail. */
export function madeAt(number, kind) {
  const row = state.session.turns.find((each) => each.turn === number);
  return `/api/jobs/${encodeURIComponent(row.job)}/${kind}`;
}

