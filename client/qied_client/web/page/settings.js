// How a picture was made, as qied wrote it into the file: a text chunk in PNG, the description in Exif elsewhere.
import { parsed } from "./json.js";

const LATIN = new TextDecoder("latin1");
const HEAD = 2 ** 20;  // what is read of a PNG or JPEG, whose texts stand before the pixels

/**
 * @param {Blob} file
 * @returns {Promise<object | null>} the settings with at least a prompt; null where there are none
 */
export async function settingsIn(file) {
  const start = await bytesOf(file, 0, 12);
  const text = start[0] === 0x89 ? await pngText(file) : LATIN.decode(start.subarray(8)) === "WEBP" ? await webpText(file) : exifText(await bytesOf(file, 0, HEAD));
  if (!text) return null;
  try {
    const settings = parsed(text);
    return typeof settings.prompt === "string" ? settings : null;
  } catch {
    return null;
  }
}

async function bytesOf(file, from, to) { return new Uint8Array(await file.slice(from, to).arrayBuffer()); }

async function pngText(file) {
  const bytes = await bytesOf(file, 0, HEAD);
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (LATIN.decode(bytes.subarray(at + 4, at + 8)) === "iTXt" && LATIN.decode(body.subarray(0, 5)) === "qied\0") {
      // keyword, NUL, compressed or not, method, language, NUL, translated keyword, NUL, text
      let start = 7;
      for (let nul = 0; nul < 2; start++) if (body[start] === 0) nul++;
      return body[5] === 0 ? new TextDecoder().decode(body.subarray(start)) : null;
    }
    at += 12 + length;
  }
  return null;
}

// In a WebP, Exif stands behind the pixels, so that its chunks are walked through.
async function webpText(file) {
  for (let at = 12; at + 8 <= file.size;) {
    const head = await bytesOf(file, at, at + 8);
    const length = new DataView(head.buffer).getUint32(4, true);
    if (LATIN.decode(head.subarray(0, 4)) === "EXIF") return exifText(await bytesOf(file, at + 8, at + 8 + length));
    at += 8 + length + (length % 2);
  }
  return null;
}

// The JSON is ASCII and ends with NUL, as texts of Exif do.
function exifText(bytes) {
  const text = LATIN.decode(bytes);
  const start = text.indexOf("qied:{");
  if (start < 0) return null;
  const end = text.indexOf("\0", start);
  return text.slice(start + 5, end < 0 ? undefined : end);
}
