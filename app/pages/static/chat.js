// The chat page: session, one open conversation, and the composer.

import { api, at, call, eventsUntil, Problem, withQuery } from "./api.js";
import { Composer, Scroll } from "./chat-controls.js";
import { Conversations } from "./chat-conversations.js";
import { TurnView } from "./chat-turn.js";
import { byId, h, icon, onSubmit, toast, visibly, withoutControls } from "./dom.js";
import { draftOf, forgetEverything, forgetUnsent, keepDraft, keepUnsent, unsentOf } from "./drafts.js";

const PAGE = 30;
const log = byId("log");
const scroll = new Scroll(log);
const composer = new Composer({ onInput: (text) => keepDraft(conversationId, text), onSubmit: submit });

let assistant = { name: "Assistant", greeting: "", suggestions: [], ready: true };
let conversationId = null;
let views = [];
let earlier = null;
/** The turn being answered: {view, control, stopWanted}; one at a time. */
let running = null;
/** Grows with each opened conversation, so that a late answer for another one is dropped. */
let opened = 0;

const conversations = new Conversations({ onOpen: (id) => open(id) });

start();

async function start() {
  prepareControls();
  try {
    await connect();
  } catch (problem) {
    byId("welcome").hidden = false;
    byId("greeting").textContent = problem.message;
    byId("suggestions").replaceChildren(
      h("button", { type: "button", class: "button", testid: "reload", onClick: () => location.reload() }, "Try again"),
    );
  }
}

/** Find or make a session, then show the assistant and the conversation the address names. */
async function connect() {
  const session = (await sessionAtHand()) ?? (await guestSession());
  byId("gate").hidden = session !== null;
  byId("shell").hidden = session === null;
  if (session === null) return byId("sign-in-key").focus();
  byId("session-name").replaceChildren(...visibly(session.name));
  byId("sign-out").hidden = session.guest;
  assistant = await api.get("v1/assistant");
  byId("assistant-name").replaceChildren(...visibly(assistant.name));
  document.title = `${withoutControls(assistant.name)} · Twofold`;
  byId("readiness").textContent = assistant.ready ? "" : "not trained yet";
  composer.enable();
  await Promise.all([conversations.reload(), open(addressed(), { push: false })]);
}

async function sessionAtHand() {
  try {
    return await api.get("v1/session");
  } catch (problem) {
    if (problem.status === 401) return null;
    throw problem;
  }
}

async function guestSession() {
  try {
    return await api.post("v1/session");
  } catch (problem) {
    if ([401, 403].includes(problem.status)) return null;
    throw problem;
  }
}

const addressed = () => /^#c\/(.+)$/.exec(location.hash)?.[1] ?? null;

/** Show a conversation, or with null the greeting of a new one. */
async function open(id, { push = true } = {}) {
  opened += 1;
  const mine = opened;
  running?.control.abort();
  setRunning(null);
  if (push && id !== conversationId) {
    history.pushState(null, "", id === null ? location.pathname : `#c/${id}`);
  }
  conversationId = id;
  views = [];
  earlier = null;
  log.replaceChildren();
  conversations.setCurrent(id);
  composer.setText(draftOf(id));
  byId("load-earlier").hidden = true;
  showWelcome();
  if (id !== null) await loadTurns(mine);
  if (mine !== opened || conversationId !== id) return;
  for (const message of unsentOf(id)) {
    if (views.some((view) => view.key === message.key)) continue; // sent while this was loading
    const view = addView(message.text, message.key);
    view.fail(new Problem({ detail: "This message may not have been sent." }));
  }
  showWelcome();
  scroll.toBottom();
}

/** The newest turns, or those before the ones shown. A log being filled is not read out. */
async function loadTurns(mine = opened) {
  const button = byId("load-earlier");
  log.setAttribute("aria-live", "off");
  try {
    const path = withQuery(at`v1/conversations/${conversationId}/turns`, { limit: PAGE, cursor: earlier });
    const page = await api.get(path);
    if (mine !== opened) return;
    const shown = new Set(views.map((view) => view.id));
    const older = page.items.filter((turn) => !shown.has(turn.id)).map((turn) => viewOf(turn));
    scroll.keepingPlace(() => log.prepend(...older.map((view) => view.element)));
    views.unshift(...older);
    views.slice(0, -1).forEach((view) => view.closeChoices());
    earlier = page.next_cursor;
    button.hidden = earlier === null;
    const unfinished = older.findLast((view) => view.isOpen);
    if (unfinished && running === null) follow(unfinished, attachTo(unfinished.id));
  } catch (problem) {
    toast(problem.status === 404 ? "This conversation no longer exists." : problem.message, "problem");
    if (problem.status === 404 && mine === opened) open(null);
  } finally {
    requestAnimationFrame(() => log.setAttribute("aria-live", "polite"));
  }
}

function viewOf(turn) {
  const view = newView(turn.text);
  view.show(turn);
  return view;
}

function newView(text) {
  return new TurnView(text, {
    assistant: assistant.name,
    onChoice: (title) => send(title),
    onRetry: (view) => retry(view),
    onEdit: (view) => edit(view),
  });
}

function addView(text, key) {
  const view = newView(text);
  view.key = key;
  views.at(-1)?.closeChoices();
  views.push(view);
  log.append(view.element);
  showWelcome();
  scroll.toBottom();
  return view;
}

function dropView(view) {
  views = views.filter((one) => one !== view);
  view.element.remove();
  if (view.key) forgetUnsent(conversationId, view.key);
}

function send(text) {
  if (running !== null || text.trim() === "") return;
  const key = crypto.randomUUID();
  keepUnsent(conversationId, { text, key });
  deliver(addView(text, key));
}

/** A stored turn is answered again in its place while it is the newest. One that may not have been
 * sent goes with the same key: the server then answers with the turn it has. */
async function retry(view) {
  if (running !== null) return;
  if (view.id !== null) return view === views.at(-1) ? answerAgain(view) : send(view.text);
  const { text, key, failure } = view;
  dropView(view);
  if (failure.status === 401) await connect().catch(() => {});
  if (failure.status === 404) await open(null);
  keepUnsent(conversationId, { text, key });
  deliver(addView(text, key));
}

async function answerAgain(view) {
  view.restart();
  await follow(view, (lastEventId, signal) =>
    lastEventId === null ? call("POST", at`v1/turns/${view.id}/retry`, { headers: STREAM, signal }) : attachTo(view.id)(lastEventId, signal),
  );
  // Answered already, or followed by a message from elsewhere: show what there is.
  if (view.failure?.status === 409) await open(conversationId, { push: false });
}

function edit(view) {
  dropView(view);
  composer.setText([composer.text, view.text].filter((part) => part !== "").join("\n"));
  keepDraft(conversationId, composer.text);
  showWelcome();
  composer.focus();
}

async function deliver(view) {
  const control = setRunning(view).control;
  try {
    if (conversationId === null) await createConversation(view);
  } catch (problem) {
    view.fail(problem);
    return setRunning(null);
  }
  if (!control.signal.aborted) await follow(view, post(view));
}

async function createConversation(view) {
  const mine = opened;
  const title = [...view.text.replace(/\s+/g, " ").trim()].slice(0, 60).join("");
  const conversation = await api.post("v1/conversations", { title });
  keepUnsent(conversation.id, view);
  forgetUnsent(null, view.key);
  if (mine !== opened) return conversations.reload();
  conversationId = conversation.id;
  history.replaceState(null, "", `#c/${conversation.id}`);
  conversations.add(conversation);
}

const STREAM = { Accept: "text/event-stream" };

/** Opens the events of a turn: by posting it until it is accepted, by its id from then on. */
function post(view) {
  const path = at`v1/conversations/${conversationId}/turns`;
  return (lastEventId, signal) => {
    if (view.id !== null) return attachTo(view.id)(lastEventId, signal);
    const headers = { ...STREAM, "Idempotency-Key": view.key };
    return call("POST", path, { body: { text: view.text }, headers, signal });
  };
}

function attachTo(id) {
  return (lastEventId, signal) => {
    const headers = lastEventId ? { ...STREAM, "Last-Event-ID": lastEventId } : STREAM;
    return call("GET", at`v1/turns/${id}/events`, { headers, signal });
  };
}

async function follow(view, openEvents) {
  const mine = running?.view === view ? running : setRunning(view);
  const { signal } = mine.control;
  const inConversation = conversationId;
  try {
    const events = eventsUntil(["done", "failed"], (last) => openEvents(last, signal), {
      signal,
      onDrop: () => view.setStatus("reconnecting"),
    });
    for await (const event of events) {
      if (signal.aborted) return;
      apply(event, view);
      if (event.name === "accepted") {
        if (view.key) forgetUnsent(inConversation, view.key);
        if (mine.stopWanted) stop();
      }
    }
  } catch (problem) {
    if (!signal.aborted) view.fail(problem);
  } finally {
    if (running === mine) setRunning(null);
  }
}

function apply({ name, data }, view) {
  if (name === "accepted") view.show(data);
  else if (name === "decision") view.decide(data);
  else if (name === "delta") view.append(data.text, data.offset);
  else if (name === "reset") view.setReply("");
  else if (data.turn === null) view.fail(new Problem({ detail: "This conversation was deleted." }));
  else if (name === "done" || name === "failed") view.show(data.turn);
}

async function stop() {
  const mine = running;
  if (mine === null) return;
  mine.stopWanted = true;
  if (mine.view.id === null) return;
  try {
    const turn = await api.post(at`v1/turns/${mine.view.id}/cancel`);
    if (running !== mine) return;
    mine.control.abort();
    mine.view.show(turn);
    setRunning(null);
  } catch (problem) {
    toast(problem.message, "problem");
  }
}

function setRunning(view) {
  running = view && { view, control: new AbortController(), stopWanted: false };
  const stopHadFocus = document.activeElement === byId("stop");
  byId("send").hidden = running !== null;
  byId("stop").hidden = running === null;
  if (stopHadFocus && running === null) composer.focus();
  return running;
}

function showWelcome() {
  byId("welcome").hidden = conversationId !== null || views.length > 0;
  byId("greeting").replaceChildren(...visibly(assistant.greeting));
  byId("suggestions").replaceChildren(
    ...assistant.suggestions.map((text) =>
      h("li", {}, h("button", { type: "button", class: "chip", dir: "auto", testid: "suggestion", onClick: () => send(text) }, text)),
    ),
  );
}

function submit() {
  if (running !== null) return toast("One moment: the last reply is still being written.");
  const text = composer.text.trim();
  if (text === "") return;
  composer.setText("");
  keepDraft(conversationId, "");
  send(text);
}

function prepareControls() {
  byId("stop").append(icon("stop"));
  byId("stop").addEventListener("click", stop);
  addEventListener("keydown", (event) => {
    const elsewhere = document.querySelector("dialog[open]") || !byId("backdrop").hidden;
    if (event.key === "Escape" && running !== null && !elsewhere) stop();
  });
  byId("load-earlier").addEventListener("click", () => loadTurns());
  addEventListener("popstate", () => open(addressed(), { push: false }));
  byId("sign-out").addEventListener("click", async () => {
    await api.delete("v1/session").catch(() => {});
    forgetEverything();
    location.assign("./");
  });
  const form = byId("sign-in-form");
  onSubmit(form, async () => {
    await api.post("v1/session", { key: byId("sign-in-key").value.trim() });
    form.reset();
    await connect();
  });
}
