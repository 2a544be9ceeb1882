// Model versions: what each is worth, which one is live, promote and roll back.

import { api, at } from "./api.js";
import { certificateOf } from "./certificate.js";
import { driftOf } from "./drift.js";
import { attempt, confirmed, h, problemLine, toast } from "./dom.js";
import { bytes, count, dateTime, percent } from "./format.js";

export class VersionsSection {
  constructor(panel) {
    this.problem = problemLine();
    this.list = h("ol", { class: "versions", testid: "version-list" });
    this.drift = h("div", {});
    this.rollBack = h("button", { type: "button", class: "button", testid: "roll-back", onClick: () => this.back() }, "Roll back");
    panel.append(
      h(
        "header",
        { class: "panel-head" },
        h("div", {}, h("h1", {}, "Versions"), h("p", { class: "lead" }, "Every training leaves a model version. One of them is live; switching takes no restart.")),
        this.rollBack,
      ),
      this.problem,
      this.drift,
      this.list,
    );
  }

  async show() {
    const [{ items, live, epoch }, drift] = await Promise.all([api.get("admin/model-versions"), api.get("admin/drift")]);
    this.drift.replaceChildren(driftOf(drift));
    this.epoch = epoch;
    this.rollBack.disabled = live === null;
    const rows = items.map((version) => this.row(version));
    this.list.replaceChildren(...(rows.length > 0 ? rows : [h("li", { class: "quiet empty" }, "No version yet. Train one first.")]));
  }

  row(version) {
    const line = problemLine();
    const promote = h("button", { type: "button", class: "button small", testid: "promote-version", onClick: () => this.promote(version, promote, line) }, "Promote");
    const { accuracy, accuracy_low: low, accuracy_high: high } = version.evaluation;
    const interval = Number.isFinite(low) && Number.isFinite(high) ? `${percent(low, 1)} to ${percent(high, 1)}` : null;
    return h(
      "li",
      { class: "sheet version", testid: "version-row", data: { version: version.number, live: version.live } },
      h("div", { class: "version-name" }, h("h2", {}, `Version ${version.number}`), version.live && h("span", { class: "badge live", testid: "live-badge" }, "live")),
      h("p", { class: "figure" }, h("b", { testid: "accuracy" }, Number.isFinite(accuracy) ? percent(accuracy, 1) : "–"), h("small", {}, interval ? `right (${interval})` : "right in its evaluation")),
      h("p", { class: "quiet" }, version.network_of && h("span", { testid: "network-of" }, `Version ${version.network_of} recalibrated · `), `${dateTime(version.created_at)} · ${count(version.examples, "example")} · ${count(version.intents, "intent")} · ${bytes(version.size_bytes)}`),
      version.live ? h("span", { class: "quiet" }, "answers the chats") : promote,
      certificateOf(version),
      h("details", {}, h("summary", {}, "Evaluation"), facts(version)),
      line,
    );
  }

  async promote(version, button, line) {
    const sure = await confirmed({
      title: `Promote version ${version.number}?`,
      text: "It answers from the next message on. You can roll back at any time.",
      action: "Promote",
      danger: false,
    });
    if (!sure) return;
    const path = at`admin/model-versions/${version.number}/promote`;
    if (await attempt(button, line, () => api.post(path, { expected_epoch: this.epoch }))) {
      toast(`Version ${version.number} is live.`);
      await this.show();
    }
  }

  async back() {
    const sure = await confirmed({
      title: "Roll back?",
      text: "The version that was live before this one answers again, from the next message on.",
      action: "Roll back",
    });
    if (!sure) return;
    const done = await attempt(this.rollBack, this.problem, async () => {
      const { live } = await api.post("admin/model-versions/rollback", { expected_epoch: this.epoch });
      toast(`Rolled back: version ${live} is live.`);
    });
    if (done) await this.show();
  }
}

/** Whatever single figures the evaluation holds, and what identifies the version. */
function facts(version) {
  const single = Object.entries(version.evaluation).filter(([, value]) => ["number", "string", "boolean"].includes(typeof value));
  const rows = [...single, ["sha256", version.sha256], ["data_hash", version.data_hash], ["training_job", version.training_job ?? "–"]];
  return h(
    "dl",
    { class: "facts-table" },
    rows.map(([name, value]) => [
      h("dt", {}, name.replaceAll("_", " ")),
      h("dd", { class: "mono" }, typeof value === "number" && !Number.isInteger(value) ? value.toFixed(4) : String(value)),
    ]),
  );
}
