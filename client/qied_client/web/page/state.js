// What the page knows, and who draws it anew when that has changed.

/**
 * @typedef {{id: string, blob: Blob, url: string, width: number, height: number}} Picture
 * @typedef {{job: string, session: string, turn: number, prompt: string, batch: string, index: number, of: number, first: number,
 *   kind: string, phase: string, done: number, total: number, left: number | null, place: number | null,
 *   starts: number | null, note: string, pictured: number}} Run
 */
export const state = {
  me: null,
  session: null,        // { name, head, turns } of the server; null before the first edit of a picture
  current: 0,           // the turn that is shown, and that the next edit edits
  /** @type {Picture[]} */
  pictures: [],         // what the model sees; the first is the canvas
  shown: null,          // { picture, base, seed } of a turn that has a picture before it to compare with
  /** @type {Map<string, Run>} */
  runs: new Map(),      // live jobs by id
  watched: null,        // the batch of jobs that is shown as it forms; its end shows its picture
  fresh: new Set(),     // turns that ended while something else was shown
  sending: null,        // { prompt, stop } while an edit is on its way to the server
  unsent: null,         // the edit that is on its way, or did not get through
  preset: null,
  known: [],            // names of the LoRAs that the server has
  loras: new Map(),     // chosen ones: name -> strength
  masking: false,
  redrawing: false,     // the next edit draws a part of the picture again
};

const painters = [];
export function whenChanged(paint) { painters.push(paint); }
export function changed() { for (const paint of painters) paint(); }

// Once what the server has is known, and what this tab had before is back.
let arrive;
export const entered = new Promise((resolve) => { arrive = resolve; });
export function hasEntered() { arrive(); }
