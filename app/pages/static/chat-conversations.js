// The drawer: past conversations to open, delete and start anew; on a phone it slides in.

import { api, at, withQuery } from "./api.js";
import { byId, confirmed, h, icon, iconButton, quoted, toast } from "./dom.js";
import { forgetConversation } from "./drafts.js";
import { ago } from "./format.js";

const PAGE = 20;
const wide = matchMedia("(min-width: 56rem)");

export class Conversations {
  /** `onOpen(id | null)`: null is a new conversation. */
  constructor({ onOpen }) {
    this.onOpen = onOpen;
    this.items = [];
    this.cursor = null;
    this.current = null;
    this.list = byId("conversation-list");
    this.more = byId("more-conversations");
    this.toggle = byId("drawer-toggle");
    this.toggle.append(icon("menu"));
    this.toggle.addEventListener("click", () => this.setOpen(this.toggle.getAttribute("aria-expanded") !== "true"));
    byId("backdrop").addEventListener("click", () => this.setOpen(false));
    byId("new-conversation").addEventListener("click", () => this.choose(null));
    this.more.addEventListener("click", () => this.loadMore());
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !byId("backdrop").hidden) this.setOpen(false);
    });
    wide.addEventListener("change", () => this.setOpen(false));
    this.setOpen(false);
  }

  async reload() {
    this.items = [];
    this.cursor = null;
    await this.loadMore();
  }

  async loadMore() {
    try {
      const page = await api.get(withQuery("v1/conversations", { limit: PAGE, cursor: this.cursor }));
      const known = new Set(this.items.map((one) => one.id));
      this.items.push(...page.items.filter((one) => !known.has(one.id)));
      this.cursor = page.next_cursor;
    } catch (problem) {
      toast(problem.message, "problem");
    }
    this.paint();
  }

  add(conversation) {
    this.items.unshift(conversation);
    this.setCurrent(conversation.id);
  }

  setCurrent(id) {
    this.current = id;
    this.paint();
  }

  choose(id) {
    const wasDrawer = !byId("backdrop").hidden;
    this.setOpen(false);
    this.onOpen(id);
    if (wasDrawer || id === null) byId("composer-text").focus();
  }

  async remove(conversation) {
    const sure = await confirmed({
      title: "Delete this conversation?",
      text: [...quoted(nameOf(conversation)), " and its messages will be gone for good."],
      action: "Delete",
    });
    if (!sure) return;
    try {
      await api.delete(at`v1/conversations/${conversation.id}`);
    } catch (problem) {
      // Already gone is as good as deleted.
      if (problem.status !== 404) return toast(problem.message, "problem");
    }
    forgetConversation(conversation.id);
    this.items = this.items.filter((one) => one.id !== conversation.id);
    this.paint();
    toast("Conversation deleted.");
    if (conversation.id === this.current) this.choose(null);
  }

  paint() {
    this.list.replaceChildren(...this.items.map((one) => this.row(one)));
    byId("no-conversations").hidden = this.items.length > 0;
    this.more.hidden = this.cursor === null;
  }

  row(conversation) {
    const name = nameOf(conversation);
    return h(
      "li",
      { testid: "conversation", data: { id: conversation.id } },
      h(
        "button",
        {
          type: "button",
          class: "conversation",
          "aria-current": conversation.id === this.current ? "page" : null,
          testid: "open-conversation",
          onClick: () => this.choose(conversation.id),
        },
        h("bdi", {}, name),
        h("small", {}, ago(conversation.updated_at)),
      ),
      iconButton("bin", `Delete ${name}`, () => this.remove(conversation), { testid: "delete-conversation" }),
    );
  }

  /** Closed on a phone, the drawer is out of sight and out of the keyboard's way. */
  setOpen(open) {
    const drawer = byId("drawer");
    const shown = open && !wide.matches;
    const hadFocus = drawer.contains(document.activeElement);
    drawer.classList.toggle("open", shown);
    drawer.inert = !shown && !wide.matches;
    byId("stage").inert = shown;
    byId("backdrop").hidden = !shown;
    this.toggle.setAttribute("aria-expanded", String(shown));
    if (shown) byId("new-conversation").focus();
    else if (hadFocus && !wide.matches) this.toggle.focus();
  }
}

const nameOf = (conversation) => conversation.title || "Untitled";
