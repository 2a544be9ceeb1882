// The sample for a recalibration: messages drawn by chance, each of which gets a label.

import { api, at, withQuery } from "./api.js";
import { sayOf } from "./certificate.js";
import { attempt, confirmed, h, problemLine, toast } from "./dom.js";
import { ago, count, dateTime } from "./format.js";

const PAGE = 20;
const OUT_OF_SCOPE = "out_of_scope";
const HINT = [["1", "2", "3"], " label · ", ["o"], " out of scope · ", ["x"], " cannot tell · ", ["j", "k"], " next, previous · ", ["u"], " undo"];

export class ReviewSample {
  constructor(panel) {
    this.panel = panel;
    this.items = [];
    this.current = 0;
    /** Turn ids, the last labelled last. */
    this.labelled = [];
    this.problem = problemLine();
    this.head = h("div", { class: "sheet stack tight", testid: "sample", "aria-live": "polite" });
    this.hint = h("p", { class: "quiet shortcuts", hidden: true }, HINT.map((part) => (Array.isArray(part) ? part.map((key) => h("kbd", {}, key)) : part)));
    this.list = h("ol", { class: "reviews", testid: "sample-list" });
    panel.append(
      h("p", { class: "lead" }, "A certificate for what people really say: the server draws messages by chance, and you say of each what it is about. They become no examples; once all have a label, the certificate is counted on them."),
      this.head,
      this.problem,
      this.hint,
      this.list,
    );
    document.addEventListener("keydown", (event) => this.onKey(event));
  }

  async show() {
    const { items } = await api.get("admin/intents");
    this.intents = items.filter((one) => one.name !== OUT_OF_SCOPE);
    this.progress = await api.get("admin/sample");
    this.outcome = null;
    this.current = 0;
    await this.load();
  }

  async load() {
    const wanted = this.progress.state === "labelling";
    const page = wanted ? await api.get(withQuery("admin/sample/turns", { limit: PAGE })) : { items: [] };
    this.items = page.items.map((turn) => this.item(turn));
    this.list.replaceChildren(...this.items.map((one) => one.element));
    this.paint();
  }

  paint() {
    this.head.replaceChildren(...this.summary().filter(Boolean));
    this.head.dataset.state = this.progress.state;
    this.hint.hidden = this.items.length === 0;
    this.current = Math.max(0, Math.min(this.current, this.items.length - 1));
    for (const [place, one] of this.items.entries()) {
      if (place === this.current) one.element.setAttribute("aria-current", "true");
      else one.element.removeAttribute("aria-current");
    }
  }

  summary() {
    const { state, sample } = this.progress;
    const draw = (title, kind = "") => h("div", { class: "row" }, this.button(title, "draw-sample", () => this.draw(), kind));
    const whence = sample && h("p", { class: "quiet" }, `Drawn ${dateTime(sample.drawn_at)} from ${count(sample.population, "message")} to version ${sample.network}, asked ${dateTime(sample.asked_from)} to ${dateTime(sample.asked_to)}. Follow-ups and picked options are left out.`);
    const bar = sample && h("progress", { max: sample.turns, value: sample.labelled, "aria-label": "Labelled" });
    const told = sample && h("p", {}, h("b", { testid: "sample-progress" }, `${sample.labelled} of ${count(sample.turns, "message")} labelled`));
    const recalibrate = this.button("Recalibrate", "recalibrate", () => this.recalibrate(), "primary");
    switch (state) {
      case "none":
        return [h("h2", {}, "No sample yet"), this.prospect(), this.canDraw() && draw("Draw a sample", "primary")];
      case "labelling":
        return [told, bar, whence, draw("Draw anew from the newest messages", "small")];
      case "complete":
        return [told, bar, whence, h("div", { class: "row" }, recalibrate)];
      case "uncertified":
        return [told, h("p", { testid: "sample-verdict" }, verdictOf(sample.verdict, this.outcome)), whence, h("div", { class: "row" }, this.remedies(sample))];
      default:
        return [h("h2", {}, "Recalibrated"), h("p", { testid: "sample-verdict" }, `Version ${sample.verdict.model_version} has the certificate of this sample. `, h("a", { href: "#versions" }, "Roll back"), " if it is not what you want."), whence, this.prospect(), this.canDraw() && draw("Draw another sample")];
    }
  }

  canDraw() {
    return this.progress.needed !== null && this.progress.available >= this.progress.needed;
  }

  prospect() {
    const { needed, available } = this.progress;
    if (needed === null) return h("p", {}, "This promise would take more labels than anybody gives. Allow more wrong answers, or train on more examples.");
    const enough = this.canDraw() ? "" : ` So far there are ${count(available, "message")} to draw it from; come back when more were said.`;
    return h("p", { testid: "sample-needed" }, `The promise needs about ${count(needed, "label")}.${enough}`);
  }

  remedies(sample) {
    const { more } = sample.verdict;
    return [
      more && this.button(`Label ${more} more`, "enlarge-sample", () => this.enlarge(), "primary"),
      this.button("Serve it all the same", "serve-uncertified", () => this.serve()),
      this.button("Draw anew", "draw-sample", () => this.draw()),
    ];
  }

  button(title, testid, action, kind = "") {
    const made = h("button", { type: "button", class: `button ${kind}`, testid, onClick: () => attempt(made, this.problem, action) }, title);
    return made;
  }

  item(turn) {
    const line = problemLine();
    const buttons = turn.choices.slice(0, 3).map((one, i) => this.choice(() => item, String(i + 1), one.title, { intent: one.intent }));
    const strange = this.choice(() => item, "o", "Out of scope", { intent: OUT_OF_SCOPE });
    const unclear = this.choice(() => item, "x", "Cannot tell", { cannot_tell: true });
    const others = this.intents.filter((one) => !turn.choices.some((choice) => choice.intent === one.name));
    const picker = h("select", { "aria-label": "Another intent", testid: "label-picker" }, h("option", { value: "" }, "Another intent …"), others.map((one) => h("option", { value: one.name }, one.title || one.name)));
    picker.addEventListener("change", () => picker.value && this.label(item, { intent: picker.value }));
    const element = h(
      "li",
      { class: "sheet review-entry", tabindex: -1, testid: "sampled-turn", data: { turn: turn.turn_id }, onFocusin: () => this.focus(this.items.indexOf(item)) },
      h("div", { class: "review-head" }, h("span", { class: "quiet" }, ago(turn.asked_at))),
      h("p", { class: "said", dir: "auto", testid: "sampled-text" }, turn.text),
      h("div", { class: "review-choices", role: "group", "aria-label": "What is it about?" }, buttons, picker, strange, unclear),
      line,
    );
    const item = { turn, element, line, buttons, strange, unclear };
    return item;
  }

  choice(item, key, title, label) {
    return h("button", { type: "button", class: "button small", testid: "sample-label", data: { intent: label.intent ?? "" }, onClick: () => this.label(item(), label) }, h("kbd", { "aria-hidden": "true" }, key), h("bdi", {}, title));
  }

  async label(item, label) {
    const { turn_id: id } = item.turn;
    await attempt(item.element, item.line, async () => {
      try {
        this.progress.sample = await api.post(at`admin/sample/turns/${id}`, label);
        this.labelled.push(id);
      } catch (problem) {
        if (problem.code !== "already_labelled" && problem.status !== 404) throw problem;
        toast(problem.message, "problem"); // somebody else was here first, or it was erased
      }
      await this.remove(item);
    });
  }

  async remove(item) {
    const place = this.items.indexOf(item);
    if (place === -1) return;
    const hadFocus = item.element.contains(document.activeElement);
    this.items.splice(place, 1);
    item.element.remove();
    if (place < this.current) this.current -= 1;
    this.paint();
    if (hadFocus) this.items[this.current]?.element.focus();
    if (this.items.length > 0) return;
    this.progress = await api.get("admin/sample");
    await this.load();
  }

  async undo(turnId) {
    const gone = await attempt(this.head, this.problem, () => api.delete(at`admin/sample/turns/${turnId}`));
    if (!gone) return;
    this.labelled = this.labelled.filter((one) => one !== turnId);
    toast("Undone.");
    await this.show();
    const place = this.items.findIndex((one) => one.turn.turn_id === turnId);
    if (place !== -1) this.focus(place);
  }

  async draw() {
    const { sample, state } = this.progress;
    const isOpen = state !== "none" && state !== "served";
    const sure = !isOpen || (await confirmed({
      title: "Draw anew?",
      text: "From the newest messages. Labels of messages that are drawn again stay; others are lost.",
      action: "Draw anew",
    }));
    if (!sure) return;
    await api.post("admin/sample", { replaces: sample?.id ?? null });
    await this.show();
  }

  async enlarge() {
    await api.post("admin/sample/enlarge", { replaces: this.progress.sample.id });
    await this.show();
  }

  async recalibrate() {
    const sure = await confirmed({
      title: "Recalibrate?",
      text: "The certificate is counted on these labels. If they bear the promise out, it counts from the next message on, as a version of its own; you can roll back at any time. If not, nothing changes.",
      action: "Recalibrate",
      danger: false,
    });
    if (sure) await this.settle(false);
  }

  async serve() {
    const sure = await confirmed({
      title: "Serve it uncertified?",
      text: "Nothing is promised then: instant answers take the usual, fixed threshold. You can roll back at any time.",
      action: "Serve it",
    });
    if (sure) await this.settle(true);
  }

  async settle(even) {
    const { epoch } = await api.get("admin/model-versions");
    const outcome = await api.post("admin/model-versions/recalibrate", { expected_epoch: epoch, even_uncertified: even });
    if (outcome.live !== null) toast(`Version ${outcome.live} is live.`);
    await this.show();
    this.outcome = outcome;
    this.paint();
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
      3: () => item?.buttons[2]?.click(),
      o: () => item?.strange.click(),
      x: () => item?.unclear.click(),
      j: () => this.step(1),
      k: () => this.step(-1),
      u: () => this.labelled.length > 0 && this.undo(this.labelled.at(-1)),
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

/** `outcome` has more to tell, but only whoever asked for it has it. */
function verdictOf({ doubt, more }, outcome) {
  const unknown = outcome?.unknown ? ` ${count(outcome.unknown, "message")} are of intents that this version does not know, and count as out of scope: train another for them.` : "";
  return `These labels do not bear the promise out. ${sayOf(doubt)}${more ? ` About ${more} more labels would do, if they turn out as these.` : ""}${unknown}`;
}
