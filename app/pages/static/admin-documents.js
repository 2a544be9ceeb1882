// Documents: what open-ended questions are answered from.

import { api, at } from "./api.js";
import { attempt, confirmed, field, h, onSubmit, problemLine, quoted, toast } from "./dom.js";
import { count, dateTime } from "./format.js";

const NEW = "*new";
const FORMATS = { markdown: "Markdown", text: "plain text", html: "HTML" };

export class DocumentsSection {
  constructor(panel, go) {
    this.go = go;
    this.panel = panel;
    this.current = null;
    this.list = h("ul", { class: "rows", testid: "document-list" });
    this.detail = h("div", { class: "detail" });
    panel.append(
      h(
        "header",
        { class: "panel-head" },
        h("div", {}, h("h1", {}, "Documents"), h("p", { class: "lead" }, "Questions that no intent covers are answered from these, with the source named. A change counts from the next question on.")),
        h("button", { type: "button", class: "button primary", testid: "new-document", onClick: () => go(`documents/${NEW}`) }, "Add document"),
      ),
      h("div", { class: "split" }, h("div", { class: "list-pane" }, this.list), this.detail),
    );
  }

  async show(name) {
    this.current = name;
    this.panel.classList.toggle("has-detail", name !== null);
    await this.refresh();
    if (this.current !== name) return; // another one was chosen meanwhile
    const back = h("a", { class: "link back", href: "#documents" }, "All documents");
    if (name === null) return this.detail.replaceChildren(h("p", { class: "quiet placeholder" }, "Choose a document, or add one."));
    const found = name === NEW ? null : await api.get(at`admin/documents/${name}`);
    if (this.current === name) this.detail.replaceChildren(back, this.form(found));
  }

  async refresh() {
    const { items } = await api.get("admin/documents");
    const rows = items.map((one) =>
      h(
        "li",
        {},
        h(
          "a",
          { class: "row-link", href: `#${at`documents/${one.name}`}`, "aria-current": one.name === this.current ? "true" : null, testid: "document-row", data: { document: one.name } },
          h("span", { class: "row-main" }, h("bdi", {}, one.title), h("small", {}, `${count(one.passages, "passage")}, ${dateTime(one.updated_at)}`)),
        ),
      ),
    );
    this.list.replaceChildren(...(rows.length > 0 ? rows : [h("li", { class: "quiet empty" }, "No documents yet.")]));
  }

  form(found) {
    const name = h("input", { required: true, maxlength: 200, spellcheck: "false", autocapitalize: "off", value: found?.name ?? "", readonly: found !== null, testid: "document-name" });
    const title = h("input", { maxlength: 200, dir: "auto", value: found?.title ?? "", testid: "document-title" });
    const text = h("textarea", { rows: 18, dir: "auto", class: "mono", value: found?.text ?? "", testid: "document-text" });
    const format = h("select", { testid: "document-format" }, ...Object.entries(FORMATS).map(([value, shown]) => h("option", { value }, shown)));
    const file = h("input", { type: "file", accept: ".md,.markdown,.txt,.html,.htm,text/markdown,text/plain,text/html", testid: "document-file" });
    file.addEventListener("change", async () => {
      const [chosen] = file.files;
      if (chosen === undefined) return;
      text.value = await chosen.text();
      format.value = /\.html?$/i.test(chosen.name) ? "html" : /\.txt$/i.test(chosen.name) ? "text" : "markdown";
      name.value ||= chosen.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}_.-]+/gu, "-");
    });
    const line = problemLine();
    const remove = h("button", { type: "button", class: "button danger", testid: "delete-document", onClick: () => this.remove(found, remove, line) }, "Delete");
    const form = h(
      "form",
      { class: "sheet stack", novalidate: true, testid: "document-form" },
      h("h2", {}, found ? h("bdi", {}, found.title) : "New document"),
      h("div", { class: "pair" }, field("Name", name, "Letters, digits and _ . -"), field("Title", title, "Shown as the source; empty: the first heading")),
      field("Text", text, "Each section becomes one passage, or several if it is long"),
      h("div", { class: "pair" }, field("Written in", format, "Kept as Markdown; of HTML what a reader sees"), field("Or take the text of a file", file)),
      line,
      h("div", { class: "row" }, h("button", { type: "submit", class: "button primary", testid: "save-document" }, found ? "Replace" : "Add document"), found && remove),
    );
    onSubmit(form, async () => {
      const content = { text: text.value, format: format.value };
      if (title.value.trim() !== "") content.title = title.value.trim();
      const stored = await api.put(at`admin/documents/${name.value.trim()}`, content);
      toast([...quoted(stored.title), ` saved: ${count(stored.passages, "passage")}.`]);
      this.go(at`documents/${stored.name}`);
    });
    return form;
  }

  async remove(found, button, line) {
    const sure = await confirmed({ title: "Delete this document?", text: [...quoted(found.title), " will no longer be used for answers."], action: "Delete" });
    if (sure && (await attempt(button, line, () => api.delete(at`admin/documents/${found.name}`)))) {
      toast("Document deleted.");
      this.go("documents");
    }
  }
}
