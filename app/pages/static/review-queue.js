// The review queue: turns worth a label, best first; one click makes an example of what somebody said.

import { api, at, withQuery } from "./api.js";
import { attempt, confirmed, h, problemLine, quoted, toast } from "./dom.js";
import { ago, count, percent } from "./format.js";

const PAGE = 20;
const OUT_OF_SCOPE = "out_of_scope";
const REASONS = {
  disliked: "Disliked",
  clarified: "Asked back",
  uncertain: "Uncertain",
  frequent: "Frequent",
};
const HINT = [["1", "2"], " label · ", ["d"], " dismiss · ", ["j", "k"], " next, previous · ", ["u"], " undo"];

export class ReviewQueue {
  constructor(panel) {
    this.panel = panel;
    this.items = [];
    this.cursor = null;
    this.waiting = 0;
    this.current = 0;
    /** Turn ids, the last decided last. */
    this.decided = [];
    this.reason = h("select", { "aria-label": "Reason", testid: "review-reason", onChange: () => this.reload() }, h("option", { value: "" }, "Every reason"), ...Object.entries(REASONS).map(([value, shown]) => h("option", { value }, shown)));
    this.intent = h("select", { "aria-label": "Intent", testid: "review-intent", onChange: () => this.reload() });
    this.acceptAll = h("button", { type: "button", class: "button", hidden: true, testid: "accept-suggestions", onClick: () => this.accept() });
    this.left = h("p", { class: "quiet", role: "status", testid: "review-left" });
    this.problem = problemLine();
    this.list = h("ol", { class: "reviews", testid: "review-list" });
    this.more = h("button", { type: "button", class: "link", hidden: true, testid: "more-review", onClick: () => attempt(this.more, this.problem, () => this.load()) }, "Show more");
    panel.append(
      h(
        "div",
        { class: "row spread" },
        h("p", { class: "lead" }, "What the assistant was unsure of, what it had to ask back about, and what people disliked. One click says what was meant, and the next training learns it."),
        this.acceptAll,
      ),
      h("div", { class: "review-filter" }, this.reason, this.intent, this.left),
      h("p", { class: "quiet shortcuts" }, HINT.map((part) => (Array.isArray(part) ? part.map((key) => h("kbd", {}, key)) : part))),
      this.problem,
      this.list,
      h("div", { class: "row" }, this.more),
    );
    document.addEventListener("keydown", (event) => this.onKey(event));
  }

  async show() {
    const { items } = await api.get("admin/intents");
    this.intents = items.filter((one) => one.name !== OUT_OF_SCOPE);
    const chosen = this.intent.value;
    this.intent.replaceChildren(h("option", { value: "" }, "Every intent"), ...this.options());
    this.intent.value = this.intents.some((one) => one.name === chosen) ? chosen : "";
    await this.reload();
  }

  options() {
    return this.intents.map((one) => h("option", { value: one.name }, one.title || one.name));
  }

  async reload() {
    this.items = [];
    this.cursor = null;
    this.current = 0;
    this.list.replaceChildren();
    await attempt(this.list, this.problem, () => this.load());
  }

  async load() {
    const query = { reason: this.reason.value || null, intent: this.intent.value || null, limit: PAGE, cursor: this.cursor };
    const page = await api.get(withQuery("admin/review", query));
    this.cursor = page.next_cursor;
    this.waiting = page.waiting;
    const known = new Set(this.items.map((one) => one.entry.turn.id));
    for (const entry of page.items) {
      if (known.has(entry.turn.id)) continue;
      const item = this.item(entry);
      this.items.push(item);
      this.list.append(item.element);
    }
    this.paint();
  }

  paint() {
    this.more.hidden = this.cursor === null;
    this.left.textContent = this.waiting === 0 ? "" : `${count(this.waiting, "message")} to look at`;
    const ready = this.items.filter((one) => one.entry.suggestion).length;
    this.acceptAll.hidden = ready === 0;
    this.acceptAll.textContent = `Accept ${count(ready, "suggestion")}`;
    if (this.items.length === 0) {
      this.list.replaceChildren(h("li", { class: "quiet placeholder", testid: "review-empty" }, "Nothing to review. What people say from now on may bring more."));
    }
    this.current = Math.max(0, Math.min(this.current, this.items.length - 1));
    for (const [place, one] of this.items.entries()) {
      if (place === this.current) one.element.setAttribute("aria-current", "true");
      else one.element.removeAttribute("aria-current");
    }
  }

  item(entry) {
    const { turn } = entry;
    const line = problemLine();
    const choices = choicesOf(entry);
    const buttons = choices.map((one, i) =>
      h(
        "button",
        { type: "button", class: `button small ${one.suggested ? "primary" : ""}`, testid: "label-as", data: { intent: one.intent }, onClick: () => this.decide(item, { intent: one.intent }, one.title) },
        h("kbd", { "aria-hidden": "true" }, String(i + 1)),
        h("bdi", {}, one.title),
        one.suggested ? h("span", {}, "chosen by the user") : h("span", {}, percent(one.confidence)),
      ),
    );
    const picker = h("select", { "aria-label": "Another intent", testid: "label-picker" }, h("option", { value: "" }, "Another intent …"), h("option", { value: OUT_OF_SCOPE }, "Out of scope"), ...this.options());
    picker.addEventListener("change", () => picker.value && this.decide(item, { intent: picker.value }, picker.selectedOptions[0].textContent));
    const dismiss = h("button", { type: "button", class: "button small", testid: "dismiss", onClick: () => this.decide(item, { dismiss: true }, null) }, h("kbd", { "aria-hidden": "true" }, "d"), "Dismiss");
    const element = h(
      "li",
      { class: "sheet review-entry", tabindex: -1, testid: "review-entry", data: { turn: turn.id }, onFocusin: () => this.focus(this.items.indexOf(item)) },
      h("div", { class: "review-head" }, entry.reasons.map((reason) => h("span", { class: `badge ${reason}`, testid: "reason", data: { reason } }, REASONS[reason])), h("span", { class: "quiet" }, howOften(entry))),
      h("p", { class: "said", dir: "auto", testid: "review-text" }, turn.text),
      turn.feedback?.comment && h("p", { class: "comment", testid: "review-comment" }, "Comment: ", quoted(turn.feedback.comment)),
      h("details", {}, h("summary", {}, h("span", { class: `badge ${turn.decision.route}` }, turn.decision.route), " ", whyOf(turn.decision)), h("p", { class: "reply", dir: "auto" }, turn.reply ?? "No reply was written.")),
      h("div", { class: "review-choices", role: "group", "aria-label": "What was meant?" }, buttons, picker, dismiss),
      line,
    );
    const item = { entry, element, line, buttons, dismiss };
    return item;
  }

  /** By a click or a key: `title` is the intent's; null dismisses. */
  async decide(item, verdict, title) {
    const path = at`admin/review/${item.entry.turn.id}`;
    const done = await attempt(item.element, item.line, async () => {
      try {
        await api.post(path, verdict);
      } catch (problem) {
        if (problem.code !== "already_reviewed" && problem.status !== 404) throw problem;
        toast(problem.message, "problem"); // somebody else was here first, or it was erased
        this.remove(item);
        return;
      }
      this.decided.push(item.entry.turn.id);
      const said = title === null ? "Dismissed." : ["Labelled ", ...quoted(title), ". It counts after the next training."];
      toast(said, "done", { label: "Undo", onClick: () => this.undo(item.entry.turn.id) });
      this.remove(item);
    });
    if (done && this.items.length === 0 && this.cursor !== null) await attempt(this.more, this.problem, () => this.load());
  }

  remove(item) {
    const place = this.items.indexOf(item);
    if (place === -1) return;
    const hadFocus = item.element.contains(document.activeElement);
    this.items.splice(place, 1);
    item.element.remove();
    this.waiting -= 1;
    if (place < this.current) this.current -= 1;
    this.paint();
    if (hadFocus) this.items[this.current]?.element.focus();
  }

  async undo(turnId) {
    const gone = await attempt(this.panel, this.problem, () => api.delete(at`admin/review/${turnId}`));
    if (!gone) return;
    this.decided = this.decided.filter((one) => one !== turnId);
    toast("Undone.");
    await this.reload();
    const place = this.items.findIndex((one) => one.entry.turn.id === turnId);
    if (place !== -1) this.focus(place);
  }

  async accept() {
    const suggested = this.items.filter((one) => one.entry.suggestion);
    const sure = await confirmed({
      title: `Accept ${count(suggested.length, "suggestion")}?`,
      text: "Each of these messages becomes an example of the intent that its user chose. You see them all on this page.",
      action: "Accept",
      danger: false,
    });
    if (!sure) return;
    await attempt(this.acceptAll, this.problem, async () => {
      const { accepted, skipped } = await api.post("admin/review/accept-suggestions", { turn_ids: suggested.map((one) => one.entry.turn.id) });
      toast(`${count(accepted, "message")} labelled${skipped > 0 ? `, ${skipped} left out` : ""}.`);
    });
    await this.reload();
  }

  focus(place) {
    if (place === this.current || place < 0 || place >= this.items.length) return;
    this.current = place;
    this.paint();
  }

  onKey(event) {
    const isTyping = event.target.closest("input, textarea, select, dialog") !== null;
    if (this.panel.closest("[hidden]") || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    const item = this.items[this.current];
    const actions = {
      1: () => item?.buttons[0]?.click(),
      2: () => item?.buttons[1]?.click(),
      d: () => item?.dismiss.click(),
      j: () => this.step(1),
      k: () => this.step(-1),
      u: () => this.decided.length > 0 && this.undo(this.decided.at(-1)),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  }

  step(by) {
    this.focus(this.current + by);
    const { element } = this.items[this.current] ?? {};
    element?.focus({ preventScroll: true });
    element?.scrollIntoView({ block: "nearest" });
  }
}

/** What users chose, then the network's first two guesses. */
function choicesOf({ suggestion, turn }) {
  const first = suggestion ? [{ ...suggestion, suggested: true }] : [];
  const guesses = turn.decision.alternatives.filter((one) => one.intent !== suggestion?.intent);
  return [...first, ...guesses].slice(0, 2);
}

function howOften({ turn, turns, conversations }) {
  if (turns === 1) return ago(turn.created_at);
  const where = conversations === 1 ? "one conversation" : count(conversations, "conversation");
  return `${count(turns, "time")} in ${where}, last ${ago(turn.created_at)}`;
}

const WHY = {
  confident: "sure enough",
  close_intents: "two intents were close",
  unsure: "not sure enough",
  not_afforded: "not sure enough, and the day's budget was spent",
  follow_up: "it went on with what was said before",
  out_of_scope: "it looked out of scope",
  no_reply: "this intent has no reply",
  no_model_version: "nothing was trained",
  chosen: "chosen by the user",
};

const whyOf = ({ cause, assurance, threshold }) => `${WHY[cause]}: ${percent(assurance)}, where ${percent(threshold)} is enough`;
