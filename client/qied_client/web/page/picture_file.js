// One picture file: whether it is one, and what it looks like.
export const MOST_BYTES = 64 * 2 ** 20;

/** @returns {Promise<import("./state.js").Picture>} rejects where the browser cannot decode it */
export async function pictureOf(blob) {
  const url = URL.createObjectURL(blob);
  const image = new Image();
  image.src = url;
  await image.decode();
  return { blob, url, width: image.naturalWidth, height: image.naturalHeight };
}

// By its first bytes, since the name and what the system makes of it may be wrong or missing.
export async function isPicture(file) {
  const bytes = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  const begins = (text, at = 0) => [...text].every((letter, index) => bytes[at + index] === letter.charCodeAt(0));
  return begins("\x89PNG\r\n") || begins("\xff\xd8\xff") || (begins("RIFF") && begins("WEBP", 8));
}
