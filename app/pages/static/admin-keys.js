// API keys: make one, see it once, revoke it.

import { api, at } from "./api.js";
import { attempt, confirmed, field, h, onSubmit, problemLine, quoted, toast } from "./dom.js";
import { dateTime } from "./format.js";

const ROLES = { user: ["chat"], observer: ["chat", "admin:read"], admin: ["admin"] };

const LIVES = [["", "never"], ["30", "in 30 days"], ["90", "in 90 days"], ["365", "in a year"]];

export class KeysSection {
  constructor(panel) {
    this.list = h("ul", { class: "rows keys-list", testid: "key-list" });
    this.shown = null;
    this.once = h("div", { testid: "key-once-place", role: "status" });
    panel.append(
      h("header", { class: "panel-head" }, h("div", {}, h("h1", {}, "Keys"), h("p", { class: "lead" }, "A user key chats, an observer sees this page, an admin may change what is here."))),
      this.form(),
      this.once,
      this.list,
    );
  }

  async show() {
    const { items } = await api.get("admin/keys");
    this.list.replaceChildren(...items.map((key) => this.row(key)));
  }

  form() {
    const name = h("input", { required: true, maxlength: 100, autocomplete: "off", placeholder: "What it is for", testid: "key-name" });
    const scope = h("select", { testid: "key-scope" }, ...Object.keys(ROLES).map((role) => h("option", { value: role }, role)));
    const days = h("select", { testid: "key-days" }, ...LIVES.map(([value, said]) => h("option", { value }, said)));
    const form = h(
      "form",
      { class: "sheet stack", novalidate: true },
      h("div", { class: "pair" }, field("Name", name), field("May", scope), field("Ends", days)),
      problemLine(),
      h("div", { class: "row" }, h("button", { type: "submit", class: "button primary", testid: "create-key" }, "Create key")),
    );
    onSubmit(form, async () => {
      const ends = days.value === "" ? null : new Date(Date.now() + Number(days.value) * 86_400_000).toISOString();
      const made = await api.post("admin/keys", { name: name.value.trim(), scopes: ROLES[scope.value], expires_at: ends });
      form.reset();
      this.showOnce(made);
      await this.show();
    });
    return form;
  }

  showOnce(made) {
    this.shown = made.id;
    const secret = h("output", { class: "mono secret", testid: "new-key" }, made.key);
    const copy = h("button", { type: "button", class: "button", testid: "copy-key" }, "Copy");
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(made.key);
        toast("Key copied.");
      } catch {
        // No clipboard here (plain HTTP, or refused): select it, so that one shortcut copies it.
        getSelection().selectAllChildren(secret);
        toast("Selected; press the copy shortcut.", "problem");
      }
    });
    const hide = h("button", { type: "button", class: "link", testid: "hide-key", onClick: () => this.once.replaceChildren() }, "I have stored it");
    this.once.replaceChildren(
      h(
        "div",
        { class: "sheet once stack tight" },
        h("p", {}, h("b", {}, "This key is shown only now: "), h("bdi", {}, made.name)),
        h("div", { class: "row" }, secret, copy),
        h("div", {}, hide),
      ),
    );
  }

  row(key) {
    const line = problemLine();
    const revoke = h("button", { type: "button", class: "button small danger", testid: "revoke-key", onClick: () => this.revoke(key, revoke, line) }, "Revoke");
    const used = key.last_used_at ? `used ${dateTime(key.last_used_at)}` : "never used";
    const ends = key.expires_at ? `, ends ${dateTime(key.expires_at)}` : "";
    const expired = key.expires_at && new Date(key.expires_at) <= new Date();
    const isAdmin = key.scopes.includes("admin:write");
    return h(
      "li",
      { class: "key-row", testid: "key-row", data: { key: key.id, revoked: key.revoked_at !== null } },
      h("span", { class: "row-main" }, h("bdi", {}, key.name), h("small", {}, h("code", {}, `${key.prefix}…`), ` made ${dateTime(key.created_at)}, ${used}${ends}`)),
      h("span", { class: `badge ${isAdmin ? "generate" : ""}` }, key.scopes.join(", ")),
      key.revoked_at ? h("span", { class: "badge failed" }, "revoked") : revoke,
      expired && !key.revoked_at ? h("span", { class: "badge failed" }, "expired") : "",
      line,
    );
  }

  async revoke(key, button, line) {
    const sure = await confirmed({ title: ["Revoke ", ...quoted(key.name), "?"], text: "Whoever uses it is refused from now on. This cannot be undone.", action: "Revoke" });
    if (sure && (await attempt(button, line, () => api.delete(at`admin/keys/${key.id}`)))) {
      toast("Key revoked.");
      if (this.shown === key.id) this.once.replaceChildren();
      await this.show();
    }
  }
}
