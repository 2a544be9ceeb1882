// The assistant's face: name, greeting, suggestions, and the variables of its replies.

import { api } from "./api.js";
import { field, h, iconButton, linesOf, onSubmit, problemLine, toast } from "./dom.js";

export class AssistantSection {
  constructor(panel) {
    this.name = h("input", { required: true, maxlength: 100, dir: "auto", testid: "assistant-name-input" });
    this.greeting = h("textarea", { rows: 4, dir: "auto", testid: "assistant-greeting" });
    this.suggestions = h("textarea", { rows: 5, dir: "auto", testid: "assistant-suggestions" });
    this.variables = h("div", { class: "variables", testid: "assistant-variables" });
    const add = h("button", { type: "button", class: "link", testid: "add-variable", onClick: () => this.addVariable("", "").focus() }, "Add a variable");
    const form = h(
      "form",
      { class: "sheet stack", novalidate: true },
      field("Name", this.name),
      field("Greeting", this.greeting, "The first thing a visitor reads"),
      field("Suggestions, one per line", this.suggestions, "Offered as buttons below the greeting"),
      h("div", { class: "field", role: "group", "aria-label": "Variables" }, h("span", {}, "Variables"), this.variables, h("div", { class: "row" }, add), h("small", {}, "{name} in a reply is replaced by its value.")),
      problemLine(),
      h("div", { class: "row" }, h("button", { type: "submit", class: "button primary", testid: "save-assistant" }, "Save")),
    );
    onSubmit(form, async () => {
      this.paint(await api.put("admin/assistant", this.value));
      toast("Saved, and live.");
    });
    panel.append(
      h("header", { class: "panel-head" }, h("div", {}, h("h1", {}, "Assistant"), h("p", { class: "lead" }, "How it introduces itself, and the facts its replies share."))),
      form,
    );
  }

  async show() {
    this.paint(await api.get("admin/assistant"));
  }

  paint(assistant) {
    this.name.value = assistant.name;
    this.greeting.value = assistant.greeting;
    this.suggestions.value = assistant.suggestions.join("\n");
    this.variables.replaceChildren();
    for (const [name, value] of Object.entries(assistant.variables)) this.addVariable(name, value);
  }

  addVariable(name, value) {
    const label = h("input", { value: name, placeholder: "name", spellcheck: "false", autocapitalize: "off", class: "mono", "aria-label": "Variable name", testid: "variable-name" });
    const row = h(
      "div",
      { class: "variable" },
      label,
      h("input", { value, placeholder: "value", dir: "auto", "aria-label": "Variable value", testid: "variable-value" }),
      iconButton("close", "Remove this variable", () => row.remove()),
    );
    this.variables.append(row);
    return label;
  }

  get value() {
    const rows = [...this.variables.children].map((row) => [...row.querySelectorAll("input")].map((input) => input.value.trim()));
    return {
      name: this.name.value.trim(),
      greeting: this.greeting.value.trim(),
      suggestions: linesOf(this.suggestions.value),
      variables: Object.fromEntries(rows.filter(([name]) => name !== "")),
    };
  }
}
