// The picture as it forms: fetched only for the edit that is shown, the newest one, and while somebody may look.
import { getBlob } from "./api.js";
import { viewer } from "./viewer.js";

let run = null;       // the edit that is shown
let have = 0;         // the step whose picture is shown, or was asked for
let address = null;
let asking = false;

/** @param {import("./state.js").Run | null} shown the edit whose picture is shown as it forms; null for none */
export function showForming(shown) {
  const other = shown?.job !== run?.job;
  run = shown;
  if (other) {
    have = 0;
    put(null);
  }
  bring();
}
document.addEventListener("visibilitychange", bring);

async function bring() {
  if (!run || asking || document.hidden || run.pictured === have) return;
  const { job } = run;
  asking = true;
  have = run.pictured;
  const picture = await getBlob(`/api/jobs/${encodeURIComponent(job)}/preview`).catch(() => null);  // the next one may come
  asking = false;
  if (picture?.size && run?.job === job) put(URL.createObjectURL(picture));
  bring();
}

function put(next) {
  viewer.forming(next);
  if (address) URL.revokeObjectURL(address);
  address = next;
}
