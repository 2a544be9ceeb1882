// Talking to the server: JSON calls, problems, and server-sent events read from fetch's stream.

/** What the server said went wrong; the message is its `detail`, written for people. */
export class Problem extends Error {
  constructor({ status = 0, code = "error", detail, errors = [] }) {
    super(detail.charAt(0).toUpperCase() + detail.slice(1));
    this.status = status;
    this.code = code;
    this.errors = errors;
  }
}

/** A response that is fine, or a thrown Problem. */
export async function call(method, path, { body, headers = {}, signal } = {}) {
  const sent = { Accept: "application/json", ...headers };
  // Proof that this request comes from a page of ours: no foreign page may set this header.
  if (method !== "GET") sent["X-Twofold-Page"] = "1";
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ code: "no_connection", detail: "The server cannot be reached. Please check the connection." });
  }
  if (response.ok) return response;
  if (response.status === 401) dispatchEvent(new Event("signed-out"));
  throw await problemOf(response);
}

async function problemOf(response) {
  const said = await response.json().catch(() => ({}));
  const detail = said.detail ?? said.title;
  return new Problem({
    status: response.status,
    code: said.code,
    detail: typeof detail === "string" ? detail : `The server answered with status ${response.status}.`,
    errors: Array.isArray(said.errors) ? said.errors : [],
  });
}

async function json(method, path, body) {
  const response = await call(method, path, { body });
  return response.status === 204 ? null : response.json();
}

export const api = {
  get: (path) => json("GET", path),
  post: (path, body = {}) => json("POST", path, body),
  put: (path, body) => json("PUT", path, body),
  patch: (path, body) => json("PATCH", path, body),
  delete: (path) => json("DELETE", path),
};

/** A path from parts that may hold anything. */
export const at = (strings, ...values) =>
  strings.reduce((path, part, i) => path + encodeURIComponent(values[i - 1]) + part);

export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return `${path}?${new URLSearchParams(given)}`;
}

const SILENCE_MS = 45_000;

/** The events of one response: `{name, data, id}`. Ends when the connection does, or falls silent. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  let event = { name: "message", data: [], id: null };
  try {
    for (;;) {
      // A network that went away says nothing at all, not even the server's heartbeat.
      const silence = setTimeout(() => reader.cancel(), SILENCE_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      buffer += value;
      // A lone CR at the end may be the first half of CRLF: it waits for the next chunk.
      for (let end; (end = /\r\n|\n|\r(?!$)/.exec(buffer)); ) {
        const line = buffer.slice(0, end.index);
        buffer = buffer.slice(end.index + end[0].length);
        if (line !== "") {
          addLine(event, line);
        } else if (event.data.length > 0) {
          yield { ...event, data: JSON.parse(event.data.join("\n")) };
          event = { name: "message", data: [], id: event.id };
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function addLine(event, line) {
  const [, name, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
  if (name === "event") event.name = value ?? "";
  else if (name === "data") event.data.push(value ?? "");
  else if (name === "id") event.id = value ?? "";
}

/**
 * Events across dropped connections, up to and with the first one named in `last`. `open` makes a
 * request that goes on after the given event id; it is asked again, with growing pauses.
 */
export async function* eventsUntil(last, open, { signal, onDrop = () => {}, attempts = 7 } = {}) {
  let lastEventId = null;
  let cause = new Problem({ code: "connection_lost", detail: "The connection was lost and did not come back." });
  for (let failures = 0; ; failures += 1) {
    try {
      for await (const event of eventsOf(await open(lastEventId))) {
        failures = 0;
        lastEventId = event.id ?? lastEventId;
        yield event;
        if (last.includes(event.name)) return;
      }
    } catch (error) {
      if (signal?.aborted || !isPassing(error)) throw error;
      if (error instanceof Problem) cause = error;
    }
    signal?.throwIfAborted();
    if (failures + 1 >= attempts) throw cause;
    onDrop();
    await pause(Math.min(400 * 2 ** failures, 8000));
  }
}

const isPassing = (error) =>
  !(error instanceof Problem) || error.status === 0 || [429, 502, 503, 504].includes(error.status);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
