// The admin page: sign-in, and one tab per section, each named by the address's hash.

import { AssistantSection } from "./admin-assistant.js";
import { DocumentsSection } from "./admin-documents.js";
import { IntentsSection } from "./admin-intents.js";
import { KeysSection } from "./admin-keys.js";
import { LedgerSection } from "./admin-ledger.js";
import { ReviewSection } from "./admin-review.js";
import { TrainingSection } from "./admin-training.js";
import { VersionsSection } from "./admin-versions.js";
import { api } from "./api.js";
import { byId, h, onSubmit, toast, visibly } from "./dom.js";

const SECTIONS = [
  { id: "intents", title: "Intents", Section: IntentsSection },
  { id: "review", title: "Review", Section: ReviewSection },
  { id: "training", title: "Training", Section: TrainingSection },
  { id: "versions", title: "Versions", Section: VersionsSection },
  { id: "documents", title: "Documents", Section: DocumentsSection },
  { id: "ledger", title: "Ledger", Section: LedgerSection },
  { id: "keys", title: "Keys", Section: KeysSection },
  { id: "assistant", title: "Assistant", Section: AssistantSection },
].map((one) => ({ ...one, tab: null, panel: null, section: null }));

start();

async function start() {
  const form = byId("sign-in-form");
  onSubmit(form, async () => {
    enter(await api.post("v1/session", { key: byId("sign-in-key").value.trim() }));
    form.reset();
  });
  byId("sign-out").addEventListener("click", async () => {
    await api.delete("v1/session").catch(() => {});
    location.reload();
  });
  addEventListener("hashchange", () => !byId("office").hidden && show());
  addEventListener("signed-out", () => {
    if (!byId("office").hidden) ask("Your session has ended. Please sign in again.");
  });
  drawTabs();
  try {
    enter(await api.get("v1/session"));
  } catch (problem) {
    ask(problem.status === 401 ? null : problem.message);
  }
}

function enter(session) {
  if (!session.scopes.includes("admin:read")) {
    const who = session.guest ? "as a guest" : `with the key “${session.name}”`;
    return ask(`You are signed in ${who}. This page needs a key with the scope admin:read.`);
  }
  byId("gate").hidden = true;
  byId("office").hidden = false;
  const name = session.scopes.includes("admin:write") ? session.name : `${session.name} (looks on)`;
  byId("session-name").replaceChildren(...visibly(name));
  show();
}

function ask(reason) {
  byId("office").hidden = true;
  byId("gate").hidden = false;
  if (reason !== null) byId("gate-reason").textContent = reason;
  byId("sign-in-key").focus();
}

function drawTabs() {
  for (const one of SECTIONS) {
    one.tab = h(
      "button",
      {
        type: "button",
        role: "tab",
        class: "tab",
        id: `tab-${one.id}`,
        "aria-controls": `panel-${one.id}`,
        testid: `tab-${one.id}`,
        onClick: () => go(one.id),
        onKeydown: (event) => onTabKey(event, one),
      },
      one.title,
    );
    one.panel = h("section", {
      role: "tabpanel",
      class: `panel ${one.id}`,
      id: `panel-${one.id}`,
      "aria-labelledby": `tab-${one.id}`,
      testid: `panel-${one.id}`,
      hidden: true,
    });
    byId("tabs").append(one.tab);
    byId("panels").append(one.panel);
  }
}

/** Sections go to each other, and to a part of themselves, by the address. */
function go(hash) {
  if (location.hash === `#${hash}`) show();
  else location.hash = hash;
}

async function show() {
  const [id, ...rest] = location.hash.slice(1).split("/");
  const current = SECTIONS.find((one) => one.id === id) ?? SECTIONS[0];
  for (const one of SECTIONS) {
    one.tab.setAttribute("aria-selected", String(one === current));
    one.tab.tabIndex = one === current ? 0 : -1;
    one.panel.hidden = one !== current;
  }
  document.title = `${current.title} · Twofold admin`;
  current.tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  current.section ??= new current.Section(current.panel, go);
  try {
    await current.section.show(rest.length > 0 ? decodeURIComponent(rest.join("/")) : null);
  } catch (problem) {
    toast(problem.message, "problem");
  }
}

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

function onTabKey(event, one) {
  const place = SECTIONS.indexOf(one);
  let next = place + (STEPS[event.key] ?? 0);
  if (event.key === "Home") next = 0;
  if (event.key === "End") next = SECTIONS.length - 1;
  if (next === place) return;
  event.preventDefault();
  const target = SECTIONS.at(next % SECTIONS.length);
  go(target.id);
  target.tab.focus();
}
