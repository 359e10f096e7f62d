// The size of a result that is as picture 1. The model itself goes by the last picture, so where there are several, the
// size that picture 1 alone would have is asked for.
import { post } from "./api.js";

const known = new Map();  // by the picture's own size

/**
 * @param {import("./state.js").Picture[]} pictures
 * @returns {Promise<string>} WIDTHxHEIGHT; empty where it can be left to the server
 */
export async function sizeLikeFirst([first, ...further]) {
  if (!further.length) return "";
  const own = `${first.width}x${first.height}`;
  if (!known.has(own)) {
    const asked = post("/api/quote", { sizes: [[first.width, first.height]], on_cap: "fit" }).then(({ width, height }) => `${width}x${height}`);
    asked.catch(() => known.delete(own));
    known.set(own, asked);
  }
  return known.get(own);
}
