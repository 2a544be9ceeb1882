// One intent: its title and replies, and its examples one by one or many at once.

import { api, at, withQuery } from "./api.js";
import { attempt, confirmed, field, h, iconButton, linesOf, onSubmit, problemLine, quoted, showProblem, toast } from "./dom.js";
import { count } from "./format.js";

const OUT_OF_SCOPE = "out_of_scope";
const PAGE = 50;
const NAME_HINT = "For the API and training files. Letters, digits and _ - / . + &";
const PLACEHOLDERS = "{shop_name} and the like stand for the assistant's variables.";

/** Replies as one text box per variant; at least one box is always there. */
class Variants {
  constructor(replies) {
    this.boxes = h("div", { class: "variants", role: "group", "aria-label": "Replies" });
    for (const reply of replies.length > 0 ? replies : [""]) this.add(reply);
    this.element = h(
      "div",
      { class: "field" },
      h("span", {}, "Replies, one per variant"),
      this.boxes,
      h("div", { class: "row" }, h("button", { type: "button", class: "link", testid: "add-reply", onClick: () => this.add("").focus() }, "Add a variant")),
      h("small", {}, PLACEHOLDERS),
    );
  }

  add(text) {
    const number = this.boxes.childElementCount + 1;
    const box = h("textarea", { rows: 3, dir: "auto", "aria-label": `Reply, variant ${number}`, testid: "reply-input", value: text });
    const remove = iconButton("close", "Remove this variant", () => {
      line.remove();
      if (this.boxes.childElementCount === 0) this.add("");
    });
    const line = h("div", { class: "variant" }, box, remove);
    this.boxes.append(line);
    return box;
  }

  get texts() {
    return [...this.boxes.querySelectorAll("textarea")].map((box) => box.value.trim()).filter((text) => text !== "");
  }
}

/** `unsaved` holds the forms somebody has typed into; the section keeps those while it shows others. */
function noteUnsaved(form, unsaved) {
  form.addEventListener("input", () => unsaved.add(form));
}

export class NewIntentForm {
  constructor({ onCreated }) {
    this.unsaved = new Set();
    this.name = h("input", { required: true, maxlength: 200, spellcheck: "false", autocomplete: "off", autocapitalize: "off", testid: "intent-name" });
    const title = h("input", { maxlength: 200, dir: "auto", autocomplete: "off", testid: "intent-title" });
    const variants = new Variants([]);
    const examples = h("textarea", { rows: 8, dir: "auto", testid: "example-input" });
    this.element = h(
      "form",
      { class: "sheet stack", novalidate: true, testid: "new-intent-form" },
      h("h2", {}, "New intent"),
      field("Name", this.name, NAME_HINT),
      field("Title", title, "How it is called when the assistant asks back"),
      variants.element,
      field("Examples, one per line", examples, "How people would say it: 8 or more, as varied as they are"),
      problemLine(),
      h("div", { class: "row" }, h("button", { type: "submit", class: "button primary", testid: "create-intent" }, "Create intent")),
    );
    noteUnsaved(this.element, this.unsaved);
    onSubmit(this.element, async () => {
      const intent = { name: this.name.value.trim(), replies: variants.texts, examples: linesOf(examples.value) };
      if (title.value.trim() !== "") intent.title = title.value.trim();
      const created = await api.post("admin/intents", intent);
      this.unsaved.clear();
      onCreated(created);
    });
  }

  focus() {
    this.name.focus();
  }
}

export class IntentEditor {
  /** `problems()` gives the lint findings as list items; the rest tells the section what happened. */
  constructor(intent, { problems, onChanged, onRenamed, onDeleted }) {
    this.intent = intent;
    this.unsaved = new Set();
    this.path = at`admin/intents/${intent.name}`;
    this.actions = { problems, onChanged, onRenamed, onDeleted };
    this.findings = h("ul", { class: "findings" });
    this.heading = h("h2", { testid: "intent-heading" });
    this.cursor = null;
    this.list = h("ul", { class: "examples", testid: "example-list" });
    this.more = h("button", { type: "button", class: "link", testid: "more-examples", hidden: true, onClick: () => this.loadExamples() }, "Show more");
    this.problem = problemLine();
    const remove = h("button", { type: "button", class: "button small danger", testid: "delete-intent", onClick: () => this.remove(remove) }, "Delete intent");
    const isReserved = intent.name === OUT_OF_SCOPE;
    this.element = h(
      "div",
      { class: "stack", testid: "intent-editor", data: { intent: intent.name } },
      h("div", { class: "detail-head" }, this.heading, h("code", {}, intent.name), remove),
      this.problem,
      this.findings,
      isReserved ? h("p", { class: "sheet quiet" }, "Reserved: its examples teach what this assistant is not for. It has no replies; such turns go to the generator.") : this.form(),
      h("section", { class: "sheet stack" }, h("h3", {}, "Examples"), this.addForm(), this.list, h("div", { class: "row" }, this.more)),
    );
    this.paintHead();
    this.loadExamples();
  }

  paintHead() {
    const title = this.intent.name === OUT_OF_SCOPE ? "Out of scope" : this.intent.title || this.intent.name;
    this.heading.replaceChildren(h("bdi", {}, title));
    this.findings.replaceChildren(...this.actions.problems());
    this.findings.hidden = this.findings.childElementCount === 0;
  }

  form() {
    const title = h("input", { maxlength: 200, dir: "auto", testid: "intent-title", value: this.intent.title });
    const name = h("input", { maxlength: 200, spellcheck: "false", autocapitalize: "off", testid: "intent-name", value: this.intent.name });
    const variants = new Variants(this.intent.replies);
    const form = h(
      "form",
      { class: "sheet stack", novalidate: true },
      h("h3", {}, "What it says"),
      h("div", { class: "pair" }, field("Title", title, "How it is called when the assistant asks back"), field("Name", name, "A new name counts after the next training")),
      variants.element,
      problemLine(),
      h("div", { class: "row" }, h("button", { type: "submit", class: "button primary", testid: "save-intent" }, "Save")),
    );
    noteUnsaved(form, this.unsaved);
    onSubmit(form, async () => {
      const change = { title: title.value.trim() || name.value.trim(), replies: variants.texts };
      if (name.value.trim() !== this.intent.name) change.name = name.value.trim();
      const before = this.intent.name;
      this.intent = await api.patch(this.path, change);
      this.unsaved.delete(form);
      toast("Saved. The replies are live at once.");
      if (this.intent.name !== before) return this.actions.onRenamed(this.intent.name);
      await this.changed();
    });
    return form;
  }

  addForm() {
    const box = h("textarea", { rows: 4, dir: "auto", testid: "example-input" });
    const outcome = h("p", { class: "quiet", role: "status", testid: "example-outcome" });
    const form = h(
      "form",
      { class: "stack tight", novalidate: true },
      field("Add examples, one per line", box),
      problemLine(),
      h("div", { class: "row" }, h("button", { type: "submit", class: "button", testid: "add-examples" }, "Add examples"), outcome),
    );
    noteUnsaved(form, this.unsaved);
    onSubmit(form, async () => {
      const texts = linesOf(box.value);
      if (texts.length === 0) throw new Error("Write at least one example.");
      const added = await api.post(`${this.path}/examples`, { texts });
      // What was skipped stays in the box, to be seen and mended.
      box.value = added.skipped.map((one) => texts[one.text_index]).join("\n");
      if (box.value === "") this.unsaved.delete(form);
      const skipped = added.skipped.length > 0 ? `, ${added.skipped.length} skipped (${added.skipped[0].reason})` : "";
      outcome.textContent = `${count(added.items.length, "example")} added${skipped}.`;
      this.list.prepend(...added.items.map((one) => this.exampleRow(one)));
      await this.changed();
    });
    return form;
  }

  async loadExamples() {
    try {
      const page = await api.get(withQuery(`${this.path}/examples`, { limit: PAGE, cursor: this.cursor }));
      this.cursor = page.next_cursor;
      this.more.hidden = this.cursor === null;
      this.list.append(...page.items.map((one) => this.exampleRow(one)));
    } catch (problem) {
      showProblem(this.problem, problem);
    }
  }

  exampleRow(example) {
    const row = h("li", { class: "example", testid: "example" });
    const line = problemLine();
    const reading = () => {
      row.replaceChildren(
        h("span", { dir: "auto", testid: "example-text" }, example.text),
        iconButton("pencil", `Edit “${example.text}”`, editing, { testid: "edit-example" }),
        iconButton("bin", `Delete “${example.text}”`, remove, { testid: "delete-example" }),
        line,
      );
    };
    const remove = async () => {
      const gone = await attempt(row, line, () => api.delete(at`admin/examples/${example.id}`));
      if (!gone) return;
      row.remove();
      toast("Example deleted.");
      await this.changed();
    };
    const editing = () => {
      const box = h("input", { value: example.text, dir: "auto", maxlength: 1000, "aria-label": "Example", testid: "example-edit" });
      const cancel = h("button", { type: "button", class: "link", onClick: reading }, "Cancel");
      const form = h("form", { class: "inline", novalidate: true }, box, h("button", { type: "submit", class: "button small", testid: "save-example" }, "Save"), cancel, problemLine());
      form.addEventListener("keydown", (event) => event.key === "Escape" && reading());
      onSubmit(form, async () => {
        example = await api.patch(at`admin/examples/${example.id}`, { text: box.value.trim() });
        reading();
        await this.changed();
      });
      row.replaceChildren(form);
      box.focus();
    };
    reading();
    return row;
  }

  async changed() {
    await this.actions.onChanged();
    this.paintHead();
  }

  async remove(button) {
    const sure = await confirmed({
      title: ["Delete ", ...quoted(this.intent.title || this.intent.name), "?"],
      text: `Its replies and ${count(this.intent.examples, "example")} go with it. The live version forgets it at the next training.`,
      action: "Delete intent",
    });
    if (!sure) return;
    if (await attempt(button, this.problem, () => api.delete(this.path))) {
      toast("Intent deleted.");
      this.actions.onDeleted();
    }
  }
}
