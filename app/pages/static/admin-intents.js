// Intents: the list with its search and lint findings, beside the editor of one of them.

import { IntentEditor, NewIntentForm } from "./admin-intent-editor.js";
import { api, at } from "./api.js";
import { h, quoted, toast } from "./dom.js";
import { count } from "./format.js";

const NEW = "*new";

export class IntentsSection {
  constructor(panel, go) {
    this.go = go;
    this.panel = panel;
    this.items = [];
    this.problems = [];
    this.current = null;
    /** Editors by intent: one with unsaved text comes back as it was left. */
    this.editors = new Map();
    this.search = h("input", { type: "search", placeholder: "Search intents", "aria-label": "Search intents", testid: "intent-search", onInput: () => this.paintList() });
    this.list = h("ul", { class: "rows", testid: "intent-list" });
    this.lint = h("div", { class: "lint", testid: "lint" });
    this.detail = h("div", { class: "detail" });
    panel.append(
      h(
        "header",
        { class: "panel-head" },
        h("div", {}, h("h1", {}, "Intents"), h("p", { class: "lead" }, "What people want, how they say it, and what the assistant replies.")),
        h("button", { type: "button", class: "button primary", testid: "new-intent", onClick: () => go(`intents/${NEW}`) }, "New intent"),
      ),
      h("div", { class: "split" }, h("div", { class: "list-pane" }, this.search, this.lint, this.list), this.detail),
    );
  }

  /** `name`: the intent to open, `*new`, or null for the list alone. */
  async show(name) {
    const changed = name !== this.current || name === null;
    this.current = name;
    this.panel.classList.toggle("has-detail", name !== null);
    await this.refresh();
    if (name !== this.current) return; // somebody has gone on meanwhile: leave their form alone
    if (changed || this.detail.childElementCount === 0) this.paintDetail();
  }

  async refresh() {
    const [intents, lint] = await Promise.all([api.get("admin/intents"), api.get("admin/training-data/lint")]);
    this.items = intents.items;
    this.problems = lint.problems;
    this.paintList();
  }

  paintList() {
    const wanted = this.search.value.trim().toLocaleLowerCase();
    const found = this.items.filter((one) => `${one.name} ${one.title}`.toLocaleLowerCase().includes(wanted));
    const rows = found.map((one) => this.row(one));
    if (rows.length === 0) rows.push(h("li", { class: "quiet empty" }, this.items.length === 0 ? "No intents yet." : "Nothing found."));
    this.list.replaceChildren(...rows);
    this.paintLint();
  }

  row(intent) {
    const worst = this.problemsOf(intent.name).map((one) => one.severity).sort()[0];
    return h(
      "li",
      {},
      h(
        "a",
        { class: "row-link", href: `#${at`intents/${intent.name}`}`, "aria-current": intent.name === this.current ? "true" : null, testid: "intent-row", data: { intent: intent.name } },
        h("span", { class: "row-main" }, h("bdi", {}, intent.title || intent.name), h("code", {}, intent.name)),
        worst && h("span", { class: `mark ${worst}`, role: "img", "aria-label": `has a training data ${worst}` }),
        h("span", { class: "number", title: count(intent.examples, "example"), testid: "example-count" }, String(intent.examples)),
      ),
    );
  }

  paintLint() {
    const open = this.lint.querySelector("details")?.open ?? false;
    this.lint.replaceChildren();
    if (this.problems.length === 0) return;
    const errors = this.problems.filter((one) => one.severity === "error").length;
    const parts = [errors && count(errors, "error"), this.problems.length - errors && count(this.problems.length - errors, "warning")];
    this.lint.append(
      h(
        "details",
        { open },
        h("summary", {}, h("span", { class: `badge ${errors ? "error" : "warning"}` }, parts.filter(Boolean).join(", ")), " in the training data"),
        h("ul", {}, this.problems.map((one) => lintLine(one, true))),
      ),
    );
  }

  paintDetail() {
    if (this.current === null) {
      const hint = this.items.length === 0 ? "Create your first intent to begin." : "Choose an intent, or create a new one.";
      return this.detail.replaceChildren(h("p", { class: "quiet placeholder" }, hint));
    }
    const back = h("a", { class: "link back", href: "#intents", testid: "back" }, "All intents");
    const left = this.editors.get(this.current);
    if (left?.unsaved.size > 0) return this.detail.replaceChildren(back, left.element);
    if (this.current === NEW) {
      const form = new NewIntentForm({ onCreated: (intent) => this.created(intent) });
      this.editors.set(NEW, form);
      this.detail.replaceChildren(back, form.element);
      return form.focus();
    }
    const intent = this.items.find((one) => one.name === this.current);
    if (intent === undefined) return this.detail.replaceChildren(back, h("p", { class: "quiet placeholder" }, "There is no intent of this name."));
    const editor = new IntentEditor(intent, {
      problems: () => this.problemsOf(this.current).map((one) => lintLine(one, false)),
      onChanged: () => this.refresh(),
      onRenamed: (name) => this.go(at`intents/${name}`),
      onDeleted: () => {
        this.editors.delete(intent.name);
        this.go("intents");
      },
    });
    this.editors.set(this.current, editor);
    this.detail.replaceChildren(back, editor.element);
  }

  created(intent) {
    toast([...quoted(intent.title || intent.name), " created. Train to teach it."]);
    this.go(at`intents/${intent.name}`);
  }

  problemsOf(name) {
    return this.problems.filter((one) => one.intent === name);
  }
}

function lintLine(problem, named) {
  const link = named && problem.intent && h("a", { href: `#${at`intents/${problem.intent}`}` }, h("code", {}, problem.intent));
  return h(
    "li",
    { class: "lint-line", testid: "lint-problem", data: { severity: problem.severity } },
    h("span", { class: `badge ${problem.severity}` }, problem.severity),
    h("span", {}, link, link && " ", h("bdi", {}, problem.message)),
  );
}
