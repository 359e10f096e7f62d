// The gateway as functions: requests with the token in a header, and a stream of events that comes back by itself.
import { parsed } from "./json.js";

const KEY = "qied.token";
const SILENCE_MS = 25_000;  // the server says something each second; after a sleep of the machine, a dead line says nothing

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = error?.code ?? "";
  }
}

export class Unreachable extends Error {}

let onUnauthorized = () => {};
// What to do when the server does not, or no longer, know the token.
export function whenUnauthorized(act) { onUnauthorized = act; }

// A link may bring the token behind #, which browsers send to nobody; it is taken out of the address at once.
export function token() {
  const brought = new URLSearchParams(location.hash.slice(1)).get("token");
  if (brought) {
    localStorage.setItem(KEY, brought);
    history.replaceState(null, "", location.pathname);
  }
  return localStorage.getItem(KEY);
}

export function rememberToken(text) { localStorage.setItem(KEY, text); }
export function forgetToken() { localStorage.removeItem(KEY); }

// crypto.randomUUID is missing where the page came over plain HTTP from another machine.
export function freshKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function request(method, path, body, headers = {}, signal = undefined) {
  const json = body !== undefined && !(body instanceof FormData);
  const sent = {
    method, signal,
    headers: { Authorization: `Bearer ${token() ?? ""}`, ...(json ? { "Content-Type": "application/json" } : {}), ...headers },
    body: json ? JSON.stringify(body) : body,
  };
  const answer = await fetch(path, sent).catch((error) => { throw signal?.aborted ? error : new Unreachable(); });
  if (answer.ok) return answer;
  let error = null;
  try { ({ error } = await answer.json()); } catch { /* not ours, such as a proxy's page */ }
  const refused = new Refused(answer.status, error);
  if (answer.status === 401) onUnauthorized(refused);
  throw refused;
}

export async function get(path) { return parsed(await (await request("GET", path)).text()); }
export async function getBlob(path) { return (await request("GET", path)).blob(); }
export async function post(path, body, headers, signal) {
  const answer = await request("POST", path, body ?? {}, headers, signal);
  return answer.status === 204 ? null : parsed(await answer.text());
}
/** @returns {Promise<Blob>} the picture as a JPEG, which browsers show */
export async function sendPicture(blob) {
  const form = new FormData();
  form.append("image", blob);
  return (await request("POST", "/api/pictures?format=jpeg", form)).blob();
}

export async function remove(path) { await request("DELETE", path); }

// EventSource cannot send a header, so events are read from a fetch. `on` gets (name, data); `onState` true or false.
export function listen(path, on, onState) {
  let stopped = false, wait = 300, control = new AbortController(), wake = () => {};
  const now = () => wake();
  addEventListener("online", now);
  document.addEventListener("visibilitychange", now);
  (async () => {
    while (!stopped) {
      control = new AbortController();
      try {
        const answer = await request("GET", path, undefined, {}, control.signal);
        wait = 300;
        onState(true);
        await readEvents(answer.body, on, control);
      } catch (error) {
        if (error instanceof Refused && error.status === 401) return;
      }
      if (stopped) return;
      onState(false);
      await new Promise((done) => { wake = done; setTimeout(done, wait); });
      wait = Math.min(wait * 1.7, 5000);
    }
  })();
  return () => {
    stopped = true;
    control.abort();
    removeEventListener("online", now);
    document.removeEventListener("visibilitychange", now);
  };
}

async function readEvents(body, on, control) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", name = "message", data = [];
  for (;;) {
    const silence = setTimeout(() => control.abort(), SILENCE_MS);
    const { value, done } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    rest += value;
    const lines = rest.split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) on(name, JSON.parse(data.join("\n")));
        name = "message"; data = [];
      } else if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
  }
}
