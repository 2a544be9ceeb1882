// Building and asking: elements, icons, toasts, confirmation, and forms that show their problems.

/**
 * An element. `onClick` and the like become listeners, `data` data attributes, `testid` the tests'
 * hook; the rest are attributes, left out when null or false. Children are nodes or plain text;
 * what is falsy is left out, so that `condition && child` can be written.
 */
export function h(tag, props = {}, ...children) {
  return build(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function build(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "data") Object.assign(element.dataset, value);
    else if (name === "testid") element.dataset.testid = value;
    else if (name === "value") element.value = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else element.setAttribute(name, value === true ? "" : withoutControls(String(value)));
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === 0).flatMap(visibly));
  return element;
}

// What changes how text is read and is not seen: bidirectional and other controls, zero-width
// characters, tags. Not those that join letters and emoji, nor the tags of a flag.
const CONTROLS =
  /(\u{1f3f4}[\u{e0020}-\u{e007e}]+\u{e007f})|[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;

/** Text as nodes, in which a mark stands for each such character: nobody's text can pose as another. */
export function visibly(child) {
  if (typeof child !== "string") return [child];
  const nodes = [];
  let end = 0;
  for (const found of child.matchAll(CONTROLS)) {
    if (found[1]) continue;
    const mark = document.createElement("span");
    mark.className = "control";
    mark.dataset.code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    nodes.push(child.slice(end, found.index), mark);
    end = found.index + found[0].length;
  }
  nodes.push(child.slice(end));
  return nodes.filter((node) => node !== "");
}

/** The same for where there is room for characters only: a label, a window's title. */
export const withoutControls = (text) => text.replace(CONTROLS, (found, flag) => flag ?? "\ufffd");

/** Somebody's words in a sentence of ours, which they cannot turn round. */
export const quoted = (text) => ["“", h("bdi", {}, text), "”"];

export const byId = (id) => document.getElementById(id);

const PATHS = {
  menu: "M4 7h16M4 12h16M4 17h10",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  bin: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7",
  up: "M7 11v9H4v-9zM7 11l4-7.5c1.5 0 2.5 1 2.5 2.5L13 10h5.5a1.6 1.6 0 0 1 1.6 1.9l-1.1 6.6A2 2 0 0 1 17 20H7",
  pencil: "M5 19l1-4L16.5 4.5l3 3L9 18z",
  close: "M6 6l12 12M18 6L6 18",
  back: "M14 6l-6 6 6 6",
};

export function icon(name) {
  const paths = svg("path", { d: PATHS[name] });
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, paths);
}

export function iconButton(name, label, onClick, props = {}) {
  const all = { type: "button", class: "icon-button", "aria-label": label, title: label };
  return h("button", { ...all, onClick, ...props }, icon(name));
}

/** Say something that needs no answer, but may offer an `action`; screen readers hear it too. */
export function toast(text, kind = "done", action = null) {
  const note = h("p", { class: `toast ${kind}`, testid: "toast" }, text);
  if (action !== null) {
    const act = () => (note.remove(), action.onClick());
    note.append(" ", h("button", { type: "button", class: "link", testid: "toast-action", onClick: act }, action.label));
  }
  byId("toasts").append(note);
  setTimeout(() => note.remove(), kind === "problem" || action !== null ? 9000 : 4500);
}

/** A modal question; resolves to whether it was confirmed. Esc means no. */
export function confirmed({ title, text, action, danger = true }) {
  return new Promise((resolve) => {
    const close = (answer) => () => dialog.close(answer);
    const yes = h(
      "button",
      { type: "button", class: `button ${danger ? "danger" : "primary"}`, testid: "confirm", onClick: close("yes") },
      action,
    );
    const no = h(
      "button",
      { type: "button", class: "button", testid: "confirm-cancel", onClick: close("no"), autofocus: true },
      "Cancel",
    );
    const heading = h("h2", { id: "question-title" }, title);
    const dialog = h(
      "dialog",
      { class: "question", "aria-labelledby": "question-title", testid: "dialog" },
      heading,
      h("p", { dir: "auto" }, text),
      h("div", { class: "row end" }, no, yes),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function problemLine() {
  return h("p", { class: "problem", role: "alert", hidden: true, testid: "problem" });
}

/** Show an error's detail in a `.problem` line; null clears it. */
export function showProblem(line, error) {
  line.hidden = error === null;
  line.replaceChildren();
  if (error === null) return;
  line.append(...visibly(error.message));
  // The detail often says the first causes itself.
  const causes = (error.errors ?? []).filter((one) => !error.message.includes(one.message));
  if (causes.length > 0) {
    line.append(h("ul", {}, causes.map((one) => h("li", {}, one.field ? `${one.field}: ` : "", one.message))));
  }
}

/**
 * Run `action` for a button or a form's submit: no second time while it runs, and what goes wrong
 * is shown at `line`. Returns whether it went well.
 */
export async function attempt(button, line, action) {
  if (button.getAttribute("aria-disabled") === "true") return false;
  button.setAttribute("aria-disabled", "true");
  showProblem(line, null);
  try {
    await action();
    return true;
  } catch (error) {
    showProblem(line, error);
    return false;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

export function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = form.querySelector("button[type=submit]");
    attempt(button, form.querySelector(".problem"), action);
  });
}

let fieldCount = 0;

/** A label above its control, with an optional hint below. */
export function field(label, control, hint = null) {
  fieldCount += 1;
  control.id ||= `field-${fieldCount}`;
  const note = hint && h("small", { id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}

export const linesOf = (text) =>
  text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
