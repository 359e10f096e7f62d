// One picture file: of which kind it is, what it looks like, and what of it is sent where the server does not read its kind.
import { freshKey, sendPicture } from "./api.js";
import { state } from "./state.js";

export const MOST_BYTES = 64 * 2 ** 20;

// By their names at the server: what people call them, and what a browser's dialog for files knows.
export const KINDS = {
  png: { name: "PNG", accept: "image/png" },
  jpeg: { name: "JPEG", accept: "image/jpeg" },
  webp: { name: "WebP", accept: "image/webp" },
  avif: { name: "AVIF", accept: "image/avif" },
  heif: { name: "HEIC", accept: "image/heic,image/heif,.heic,.heif" },
  jxl: { name: "JPEG XL", accept: "image/jxl,.jxl" },
};
const BROWSERS = ["png", "jpeg", "webp"];  // what every browser shows
const AVIF = ["avif", "avis"], HEIF = ["heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1"];

// A picture of one pixel.
const SAMPLE = "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAOltZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAAA5waXRtAAAAAAABAAAAHmlsb2MAAAAARAAAAQABAAAAAQAAAQ0AAAAb"
  + "AAAAKGlpbmYAAAAAAAEAAAAaaW5mZQIAAAAAAQAAYXYwMUNvbG9yAAAAAGhpcHJwAAAASWlwY28AAAAUaXNwZQAAAAAAAAABAAAAAQAAAA5waXhpAAAAAAEIAAAADGF2MUOBABwAAAAAE2NvbHJuY2x4AAEADQAG"
  + "gAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAI21kYXQSAAoHGAAG2AhoNTIOHsVZwAAsAICQNaKKYHo=";
let avifIsShown = false;
decoded(new Blob([Uint8Array.from(atob(SAMPLE), (letter) => letter.charCodeAt(0))])).then(() => { avifIsShown = true; }, () => {});

/** What can be chosen: what the server reads, and what this browser makes a PNG of. */
export function kindsTaken() {
  const read = state.me?.picture_formats ?? BROWSERS;
  return Object.keys(KINDS).filter((kind) => read.includes(kind) || (kind === "avif" && avifIsShown));
}

/**
 * @param {Blob} blob @param {string} id names it in this page
 * @returns {Promise<import("./state.js").Picture>} rejects where it cannot be shown
 */
export async function pictureOf(blob, id = freshKey()) {
  const kind = await kindOf(blob);
  let shown = blob, image = await decoded(blob).catch(() => null);
  if (!image) {
    if (!kind || BROWSERS.includes(kind)) throw new Error("broken");
    shown = await sendPicture(blob);
    image = await decoded(shown);
  }
  const read = !kind || (state.me?.picture_formats ?? BROWSERS).includes(kind);
  const sent = read ? blob : shown === blob ? await pngOf(image) : shown;
  return { id, blob: sent, url: image.src, width: image.naturalWidth, height: image.naturalHeight };
}

async function decoded(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
  } catch (error) {
    URL.revokeObjectURL(image.src);
    throw error;
  }
  return image;
}

async function pngOf(image) {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/**
 * By its first bytes, since the name and what the system makes of it may be wrong or missing.
 * @returns {Promise<string | null>} one of KINDS; null for what is no picture
 */
export async function kindOf(file) {
  const bytes = new Uint8Array(await file.slice(0, 64).arrayBuffer());
  const text = new TextDecoder("latin1").decode(bytes);
  if (bytes[0] === 0x89 && text.startsWith("PNG\r\n", 1)) return "png";
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return "jpeg";
  if (text.startsWith("RIFF") && text.startsWith("WEBP", 8)) return "webp";
  if (bytes[0] === 0xff && bytes[1] === 0x0a || text.startsWith("\0\0\0\x0cJXL \r\n")) return "jxl";
  if (!text.startsWith("ftyp", 4)) return null;
  // The main brand, and from the fourth word on those that the file is compatible with.
  const end = new DataView(bytes.buffer).getUint32(0);
  const brands = [text.slice(8, 12), ...text.slice(16, end).match(/[^]{4}/g) ?? []];
  if (brands.some((brand) => AVIF.includes(brand))) return "avif";
  return brands.some((brand) => HEIF.includes(brand)) ? "heif" : null;
}
