// Review: the queue of turns worth a label, and beside it the sample for a recalibration.

import { h } from "./dom.js";
import { ReviewQueue } from "./review-queue.js";
import { ReviewSample } from "./review-sample.js";

const PARTS = [
  { id: "", title: "Queue", Part: ReviewQueue },
  { id: "sample", title: "Sample for recalibration", Part: ReviewSample },
];

export class ReviewSection {
  constructor(panel) {
    this.parts = PARTS.map((one) => {
      const link = h("a", { href: `#review${one.id && "/"}${one.id}`, testid: `review-tab-${one.id || "queue"}` }, one.title);
      const area = h("div", { class: "stack", hidden: true });
      return { ...one, link, area, part: null };
    });
    panel.append(
      h("header", { class: "panel-head" }, h("div", {}, h("h1", {}, "Review"))),
      h("nav", { class: "parts", "aria-label": "Review" }, this.parts.map((one) => one.link)),
      ...this.parts.map((one) => one.area),
    );
  }

  async show(id) {
    const current = this.parts.find((one) => one.id === id) ?? this.parts[0];
    for (const one of this.parts) {
      one.area.hidden = one !== current;
      if (one === current) one.link.setAttribute("aria-current", "page");
      else one.link.removeAttribute("aria-current");
    }
    current.part ??= new current.Part(current.area);
    await current.part.show();
  }
}
