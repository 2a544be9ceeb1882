// The message box, and the scrolling that stays with the newest message unless one reads above.

import { byId, icon } from "./dom.js";

const NEAR_PX = 90;

export class Composer {
  /** `onInput(text)` after each change by hand, `onSubmit()` on Enter or the button. */
  constructor({ onInput, onSubmit }) {
    this.box = byId("composer-text");
    byId("send").append(icon("send"));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      onSubmit();
    });
    this.box.addEventListener("input", () => {
      onInput(this.box.value);
      this.fit();
    });
    this.box.addEventListener("keydown", (event) => {
      // Enter also ends the composition of a Japanese or Chinese word: that one must not send.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      onSubmit();
    });
    this.fit();
  }

  get text() {
    return this.box.value;
  }

  setText(text) {
    this.box.value = text;
    this.fit();
  }

  focus() {
    this.box.focus();
  }

  /** Closed until there is a session. Where a keyboard is likely, one can write at once. */
  enable() {
    this.box.disabled = false;
    if (matchMedia("(pointer: fine)").matches) this.focus();
  }

  /** As high as its text, up to what the style allows. */
  fit() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
    byId("send").setAttribute("aria-disabled", String(this.box.value.trim() === ""));
  }
}

export class Scroll {
  constructor(content) {
    this.area = byId("scroller");
    this.sticks = true;
    this.area.addEventListener("scroll", () => {
      const below = this.area.scrollHeight - this.area.scrollTop - this.area.clientHeight;
      this.sticks = below < NEAR_PX;
      byId("to-latest").hidden = this.sticks;
    });
    const observer = new ResizeObserver(() => this.sticks && this.toBottom());
    observer.observe(content);
    observer.observe(this.area);
    byId("to-latest").addEventListener("click", () => this.toBottom());
  }

  toBottom() {
    this.sticks = true;
    this.area.scrollTop = this.area.scrollHeight;
  }

  /** What is on screen stays where it is while something is put above it. */
  keepingPlace(change) {
    const { scrollHeight, scrollTop } = this.area;
    change();
    this.area.scrollTop = scrollTop + this.area.scrollHeight - scrollHeight;
  }
}
