// One turn on the page: what was said, the reply as it grows, and how it came about.

import { api, at, Problem } from "./api.js";
import { h, iconButton, problemLine, showProblem, toast, visibly } from "./dom.js";
import { clockTime, milliseconds, percent } from "./format.js";

const FINAL = ["done", "failed", "cancelled"];

const PROGRESS = {
  sending: "Sending",
  accepted: "Waiting for its turn",
  generating: "Writing",
  reconnecting: "Reconnecting",
};

const ROUTES = {
  instant: "A known intent: answered at once with a prepared reply",
  clarify: "Two intents are close: asked back",
  generate: "Open-ended: handed to the generator",
};

const BASES = {
  certified: "certified threshold",
  under_pressure: "looser certified threshold of busy times",
  other_traffic: "certified threshold, and more care, as much of late is out of scope,",
  uncertified: "careful default, as nothing is certified,",
  fixed: "threshold",
};

const CAUSES = {
  confident: (d) => `Sure enough: ${percent(d.assurance)} reaches the ${BASES[d.basis]} of ${percent(d.threshold)}.`,
  chosen: () => "You picked this yourself.",
  close_intents: (d) => `Two intents are close to each other, only ${percent(d.margin)} apart, so it asked back.`,
  follow_up: (d) => `Not sure enough by itself, but with ${percent(d.goes_on)} it goes on with what was talked about, so the generator took it with the conversation.`,
  unsure: (d) => `Not sure enough: ${percent(d.assurance)} for the ${BASES[d.basis]} of ${percent(d.threshold)}.`,
  not_afforded: () => "Not sure enough, and what generating may cost today is spent, so it asked back.",
  out_of_scope: (d) => `Resembles nothing the network was taught, ${d.pressure === "spent" ? "and what generating may cost today is spent" : "so the generator took it"}.`,
  no_reply: () => "The intent is known, but has no reply that can be said.",
  no_model_version: () => "No model version is live yet.",
};

export class TurnView {
  /** `onChoice(title)`, `onRetry(view)`, `onEdit(view)` are what its buttons do. */
  constructor(text, { assistant, onChoice, onRetry, onEdit }) {
    this.text = text;
    this.id = null;
    this.replyText = "";
    this.actions = { onChoice, onRetry, onEdit };
    this.said = h("p", { class: "utterance", dir: "auto", testid: "utterance" }, text);
    this.reply = h("p", { class: "reply", dir: "auto", testid: "reply", hidden: true });
    this.progress = h("p", { class: "progress", testid: "progress" });
    this.extras = h("div", { class: "extras" });
    this.problem = problemLine();
    this.rescue = h("div", { class: "row rescue" });
    this.facts = h("div", { class: "facts" });
    this.element = h(
      "article",
      { class: "turn", testid: "turn", "aria-busy": "true" },
      h("div", { class: "said" }, h("span", { class: "unseen" }, "You: "), this.said),
      h(
        "div",
        { class: "answer" },
        h("span", { class: "unseen" }, h("bdi", {}, assistant), ": "),
        this.reply,
        this.progress,
        this.extras,
        this.problem,
        this.rescue,
        this.facts,
      ),
    );
    this.setStatus("sending");
  }

  get isOpen() {
    return !FINAL.includes(this.element.dataset.status);
  }

  setStatus(status) {
    this.element.dataset.status = status;
    // Busy while it grows, so that a screen reader hears the reply once and whole.
    this.element.setAttribute("aria-busy", String(status in PROGRESS));
    const dots = h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    this.progress.replaceChildren(...(status in PROGRESS ? [dots, PROGRESS[status]] : []));
    this.progress.hidden = !(status in PROGRESS);
  }

  /** `offset` counts characters as the server does: code points, not JavaScript's UTF-16 units. */
  append(text, offset) {
    const before = this.replyText;
    const points = [...before];
    this.setReply((offset >= points.length ? before : points.slice(0, offset).join("")) + text);
    this.setStatus("generating");
  }

  /** As it was before the first word. */
  restart() {
    this.failure = null;
    this.setReply("");
    this.setStatus("sending");
    this.extras.replaceChildren();
    this.rescue.replaceChildren();
    this.facts.replaceChildren();
    showProblem(this.problem, null);
  }

  setReply(text) {
    this.replyText = text;
    this.reply.replaceChildren(...visibly(text));
    this.reply.hidden = text === "";
  }

  /** Show everything a stored turn tells. */
  show(turn) {
    this.id = turn.id;
    this.element.dataset.turnId = turn.id;
    this.said.replaceChildren(...visibly(turn.text));
    this.said.title = `Sent at ${clockTime(turn.created_at)}`;
    if (turn.reply !== null) this.setReply(turn.reply);
    this.setStatus(turn.status);
    this.extras.replaceChildren();
    this.rescue.replaceChildren();
    showProblem(this.problem, null);
    if (turn.choices.length > 0) this.extras.append(this.choices(turn.choices));
    if (turn.citations.length > 0) this.extras.append(citations(turn.citations));
    if (turn.status === "failed") this.fail(failureOf(turn));
    if (turn.status === "cancelled") {
      this.rescue.append(h("span", { class: "quiet", testid: "stopped" }, "Stopped."), this.retry("Ask again"));
    }
    if (turn.decision) this.decide(turn.decision, turn);
  }

  /** What went wrong, and the two ways on. Without an id the server has never seen the message. */
  fail(problem) {
    this.failure = problem;
    this.setStatus("failed");
    showProblem(this.problem, problem);
    const edit = h("button", { type: "button", class: "link", testid: "edit-message", onClick: () => this.actions.onEdit(this) }, "Edit");
    this.rescue.replaceChildren(this.retry("Try again"), this.id === null ? edit : "");
  }

  retry(label) {
    return h("button", { type: "button", class: "button small", testid: "retry", onClick: () => this.actions.onRetry(this) }, label);
  }

  choices(choices) {
    const buttons = choices.map((choice) =>
      h(
        "button",
        { type: "button", class: "chip", dir: "auto", testid: "choice", data: { intent: choice.intent }, onClick: () => this.actions.onChoice(choice.title) },
        choice.title,
      ),
    );
    return h("div", { class: "chips choices", role: "group", "aria-label": "Did you mean" }, buttons);
  }

  /** Once the conversation has moved on, its question is no longer open. */
  closeChoices() {
    for (const button of this.extras.querySelectorAll(".choices button")) button.disabled = true;
  }

  /** How the turn was decided, in one discreet line; `turn` adds cost and feedback when it ends. */
  decide(decision, turn = null) {
    this.element.dataset.route = decision.route;
    const why = h("div", { class: "why", hidden: true, testid: "why" }, reasons(decision));
    const toggle = h(
      "button",
      { type: "button", class: "link quiet", "aria-expanded": "false", testid: "why-toggle" },
      "Why?",
    );
    toggle.addEventListener("click", () => {
      why.hidden = !why.hidden;
      toggle.setAttribute("aria-expanded", String(!why.hidden));
    });
    const isFinal = turn !== null && FINAL.includes(turn.status);
    this.facts.replaceChildren(
      h(
        "div",
        { class: "facts-line" },
        h("span", { class: `badge ${decision.route}`, title: ROUTES[decision.route], testid: "route", data: { route: decision.route } }, decision.route),
        intentFact(decision),
        decision.intent && confidenceFact(decision.confidence),
        isFinal && timeFact(turn),
        isFinal && turn.generator && h("span", { testid: "generator", title: "Who wrote it" }, turn.generator),
        isFinal && turn.degraded && h("span", { class: "warn", testid: "degraded", title: reasonFor(turn) }, turn.degraded),
        toggle,
        isFinal && turn.status === "done" && feedback(turn),
      ),
      why,
    );
  }
}

function intentFact(decision) {
  if (!decision.intent) return h("span", { testid: "intent", data: { intent: "" } }, "no intent");
  const title = decision.intent_title || decision.intent;
  const guess = decision.cause === "out_of_scope" ? "nearest: " : "";
  return h("span", { testid: "intent", data: { intent: decision.intent }, title: decision.intent }, guess, h("bdi", {}, title));
}

function confidenceFact(confidence) {
  return h(
    "span",
    { class: "confidence", testid: "confidence", data: { confidence }, title: "Confidence, calibrated" },
    meter(confidence, "Confidence"),
    percent(confidence),
  );
}

function meter(share, label) {
  const fill = h("i");
  fill.style.width = percent(share, 1).replace(" ", "");
  const range = { "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": share.toFixed(3) };
  return h("span", { class: "meter", role: "meter", "aria-label": label, ...range }, fill);
}

function timeFact(turn) {
  const { total_ms: total, classify_ms: classify, first_piece_ms: first } = turn.timing;
  if (total === null) return null;
  const parts = [
    classify === null ? "" : `classified in ${milliseconds(classify)}`,
    first === null ? "" : `first words after ${milliseconds(first)}`,
  ];
  const props = { class: "ms", testid: "ms", data: { ms: total }, title: parts.filter(Boolean).join(", ") };
  return h("span", props, milliseconds(total));
}

function reasons(decision) {
  const cause = (CAUSES[decision.cause] ?? (() => decision.cause))(decision);
  const rows = decision.alternatives.map((one) =>
    h("li", {}, h("bdi", {}, one.title || one.intent), meter(one.confidence, "Confidence"), h("span", {}, percent(one.confidence, 1))),
  );
  return [h("p", {}, cause), rows.length > 0 && h("ol", { "aria-label": "Likeliest intents" }, rows)];
}

function citations(all) {
  return h(
    "div",
    { class: "citations" },
    all.map((one) =>
      h(
        "details",
        { testid: "citation", data: { passage: one.passage_id } },
        h("summary", {}, "Source: ", h("bdi", {}, one.document), one.title && [" › ", h("bdi", {}, one.title)]),
        h("blockquote", { dir: "auto", testid: "quote" }, one.quote),
      ),
    ),
  );
}

function feedback(turn) {
  let rating = turn.feedback?.rating ?? null;
  const group = h("span", { class: "thumbs", role: "group", "aria-label": "Was this helpful?" });
  const path = at`v1/turns/${turn.id}/feedback`;
  const buttons = { up: thumb("up", "Helpful"), down: thumb("down", "Not helpful") };

  function thumb(value, label) {
    return iconButton("up", label, () => rate(value), { class: `icon-button thumb ${value}`, testid: `feedback-${value}` });
  }
  function paint() {
    for (const [value, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", String(rating === value));
  }
  async function rate(value) {
    const before = rating;
    rating = rating === value ? null : value;
    paint();
    try {
      if (rating === null) await api.delete(path);
      else await api.put(path, { rating });
      toast(rating === null ? "Feedback taken back." : "Thank you for the feedback.");
    } catch (problem) {
      rating = before;
      paint();
      toast(problem.message, "problem");
    }
  }
  paint();
  group.append(buttons.up, buttons.down);
  return group;
}

function failureOf(turn) {
  return new Problem({ detail: turn.error?.message ?? "The reply could not be finished." });
}

function reasonFor({ degraded, skipped }) {
  if (degraded === "budget") return "What generating may cost today is spent";
  if (skipped.length === 0) return "Not the best answer";
  return `Did not answer: ${skipped.map((one) => `${one.generator} (${one.error})`).join(", ")}`;
}
