// The gateway as functions: requests with the token in a header, and a stream of events that comes back by itself.
const KEY = "qied.token";

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = error?.code ?? "";
    this.param = error?.param ?? null;
  }
}

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

async function request(method, path, body, headers = {}, signal = undefined) {
  const json = body !== undefined && !(body instanceof FormData);
  const answer = await fetch(path, {
    method, signal,
    headers: { Authorization: `Bearer ${token() ?? ""}`, ...(json ? { "Content-Type": "application/json" } : {}), ...headers },
    body: json ? JSON.stringify(body) : body,
  });
  if (!answer.ok) {
    let error = null;
    try { ({ error } = await answer.json()); } catch { /* not ours, such as a proxy's page */ }
    throw new Refused(answer.status, error);
  }
  return answer;
}

export async function get(path) { return (await request("GET", path)).json(); }
export async function getBlob(path) { return (await request("GET", path)).blob(); }
export async function post(path, body, headers) {
  const answer = await request("POST", path, body ?? {}, headers);
  return answer.status === 204 ? null : answer.json();
}
export async function remove(path) { await request("DELETE", path); }

// EventSource cannot send a header, so events are read from a fetch. `on` gets (name, data); `onState` true or false.
export function listen(path, on, onState) {
  let stopped = false, wait = 300;
  const control = new AbortController();
  (async () => {
    while (!stopped) {
      try {
        const answer = await request("GET", path, undefined, {}, control.signal);
        onState(true);
        wait = 300;
        await readEvents(answer.body, on);
      } catch (error) {
        if (stopped) return;
        if (error instanceof Refused && error.status === 401) { onState(false, error); return; }
      }
      onState(false);
      await new Promise((done) => setTimeout(done, wait));
      wait = Math.min(wait * 1.7, 5000);
    }
  })();
  return () => { stopped = true; control.abort(); };
}

async function readEvents(body, on) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", name = "message", data = [];
  for (;;) {
    const { value, done } = await reader.read();
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
