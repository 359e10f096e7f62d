// How a picture was made, as qied wrote it into the file: a text chunk in PNG, the description in Exif elsewhere.
export async function settingsIn(file) {
  const bytes = new Uint8Array(await file.slice(0, 2 ** 20).arrayBuffer());
  const text = bytes[0] === 0x89 ? pngText(bytes, "qied") : exifText(bytes);
  if (!text) return null;
  try {
    const settings = JSON.parse(text);
    return typeof settings.prompt === "string" ? settings : null;
  } catch {
    return null;
  }
}

function pngText(bytes, keyword) {
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "iTXt" && ascii(body.subarray(0, keyword.length + 1)) === `${keyword}\0`) {
      // keyword, NUL, compressed or not, method, language, NUL, translated keyword, NUL, text
      let start = keyword.length + 3;
      for (let nul = 0; nul < 2; start++) if (body[start] === 0) nul++;
      return body[keyword.length + 1] === 0 ? new TextDecoder().decode(body.subarray(start)) : null;
    }
    at += 12 + length;
  }
  return null;
}

function exifText(bytes) {
  const text = new TextDecoder("latin1").decode(bytes);
  const start = text.indexOf("qied:{");
  if (start < 0) return null;
  const end = text.indexOf("\0", start);
  return text.slice(start + 5, end < 0 ? undefined : end);
}

function ascii(bytes) { return String.fromCharCode(...bytes); }
