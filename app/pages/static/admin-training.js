// Training: start a job, watch its curves grow, promote what came out.

import { api, at, call, eventsUntil } from "./api.js";
import { lineChart } from "./chart.js";
import { attempt, h, problemLine, showProblem, toast } from "./dom.js";
import { count, dateTime, percent, seconds, secondsBetween } from "./format.js";

const OPEN = ["queued", "running"];

export class TrainingSection {
  constructor(panel) {
    this.jobs = [];
    this.job = null;
    this.watching = null;
    this.train = h("button", { type: "button", class: "button primary", testid: "train", onClick: () => this.start() }, "Train");
    this.cancel = h("button", { type: "button", class: "button", testid: "cancel-training", hidden: true, onClick: () => this.stop() }, "Cancel");
    this.problem = problemLine();
    this.status = h("p", { class: "job-status", role: "status", testid: "job-status" });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": "Training progress", hidden: true });
    this.outcome = h("div", { class: "outcome", testid: "training-outcome" });
    this.charts = h("div", { class: "charts" });
    this.history = h("ul", { class: "rows", testid: "job-history" });
    panel.append(
      h(
        "header",
        { class: "panel-head" },
        h("div", {}, h("h1", {}, "Training"), h("p", { class: "lead" }, "Learns from all examples as they are now. Chats go on meanwhile, and nothing goes live before you promote it.")),
        h("div", { class: "row" }, this.cancel, this.train),
      ),
      this.problem,
      h("div", { class: "sheet stack" }, h("div", { class: "stack tight" }, this.status, this.bar), this.outcome, this.charts),
      h("h2", {}, "Training jobs"),
      this.history,
    );
  }

  async show() {
    await this.reload();
    const newest = this.jobs[0] ?? null;
    if (newest !== null && OPEN.includes(newest.status)) this.watch(newest);
    else if (this.job === null || newest === null) await this.select(newest);
    else await this.select(this.jobs.find((one) => one.id === this.job.id) ?? newest);
  }

  async reload() {
    this.jobs = (await api.get("admin/training-jobs")).items;
    this.paintHistory();
  }

  async start() {
    const began = await attempt(this.train, this.problem, async () => {
      const job = await api.post("admin/training-jobs");
      await this.reload();
      this.watch(job);
    });
    if (!began) this.problem.scrollIntoView({ block: "nearest" });
  }

  stop() {
    const { id } = this.job;
    attempt(this.cancel, this.problem, () => api.post(at`admin/training-jobs/${id}/cancel`));
  }

  /** Follow one job to its end; a second call for the same job changes nothing. */
  async watch(job) {
    this.paint(job);
    if (this.watching === job.id) return;
    this.watching = job.id;
    this.outcome.replaceChildren();
    const open = () => call("GET", at`admin/training-jobs/${job.id}/events`, { headers: { Accept: "text/event-stream" } });
    try {
      for await (const { name, data } of eventsUntil(["done"], open)) {
        if (this.watching !== job.id) return;
        this.paint(data);
        if (name === "done") await this.paintOutcome(data);
      }
      await this.reload();
    } catch (problem) {
      showProblem(this.problem, problem);
    } finally {
      if (this.watching === job.id) this.watching = null;
    }
  }

  async select(job) {
    this.paint(job);
    await this.paintOutcome(job);
    this.paintHistory();
  }

  paint(job) {
    this.job = job;
    const isOpen = job !== null && OPEN.includes(job.status);
    this.train.disabled = isOpen;
    this.cancel.hidden = !isOpen;
    this.bar.hidden = !isOpen;
    this.status.dataset.status = job?.status ?? "none";
    this.status.replaceChildren(...(job === null ? ["Nothing has been trained yet."] : statusOf(job)));
    if (job === null) return this.charts.replaceChildren();
    const { epoch, epochs, history } = job.progress;
    if (epochs > 0) this.bar.value = epoch / epochs;
    else this.bar.removeAttribute("value");
    this.charts.replaceChildren(...(history.length > 0 || isOpen ? curves(history, isOpen ? epochs : epoch) : []));
  }

  /** What a finished job leaves to do: promote its version, or mend what went wrong. */
  async paintOutcome(job) {
    this.outcome.replaceChildren();
    if (job === null || OPEN.includes(job.status)) return;
    if (job.error) {
      const line = problemLine();
      showProblem(line, { message: job.error.message, errors: (job.error.problems ?? []).map((message) => ({ message })) });
      this.outcome.append(line);
    }
    if (job.model_version === null) return;
    const versions = await api.get("admin/model-versions");
    if (this.job?.id !== job.id) return;
    const version = versions.items.find((one) => one.number === job.model_version);
    if (version === undefined) return;
    const { accuracy } = version.evaluation;
    const said = `Version ${version.number} is ready${Number.isFinite(accuracy) ? `: ${percent(accuracy, 1)} right in its evaluation` : ""}.`;
    this.outcome.append(version.live ? liveNote(version.number) : this.offer(version, versions.epoch, said));
  }

  offer(version, epoch, said) {
    const line = problemLine();
    const button = h("button", { type: "button", class: "button primary", testid: "promote", data: { version: version.number } }, `Promote version ${version.number}`);
    button.addEventListener("click", async () => {
      const path = at`admin/model-versions/${version.number}/promote`;
      if (await attempt(button, line, () => api.post(path, { expected_epoch: epoch }))) {
        toast(`Version ${version.number} is live.`);
        this.outcome.replaceChildren(liveNote(version.number));
      }
    });
    return h("div", { class: "stack tight" }, h("div", { class: "row spread" }, h("p", {}, said), button), line);
  }

  paintHistory() {
    const rows = this.jobs.map((job) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "row-link", "aria-pressed": String(job.id === this.job?.id), testid: "job-row", data: { status: job.status }, onClick: () => this.select(job) },
          h("span", { class: "row-main" }, dateTime(job.created_at), h("small", {}, summaryOf(job))),
          h("span", { class: `badge ${job.status}` }, job.status),
        ),
      ),
    );
    this.history.replaceChildren(...(rows.length > 0 ? rows : [h("li", { class: "quiet empty" }, "None yet.")]));
  }
}

function liveNote(number) {
  return h("div", { class: "row spread", testid: "promoted" }, h("p", {}, h("span", { class: "badge live" }, "live"), ` Version ${number} answers the chats now.`), h("a", { class: "button", href: "./" }, "Try it in the chat"));
}

function statusOf(job) {
  const badge = h("span", { class: `badge ${job.status}` }, job.status);
  const { epoch, epochs, history } = job.progress;
  if (job.status === "queued") return [badge, " Waiting for the worker."];
  if (job.status === "running") return [badge, epochs > 0 ? ` Epoch ${epoch} of ${epochs}${timeLeft(history, epochs)}` : " Preparing the examples"];
  return [badge, ` ${summaryOf(job)}`];
}

function timeLeft(history, epochs) {
  const times = history.map((one) => one.seconds).filter(Number.isFinite);
  if (times.length < 2) return "";
  const left = (times.reduce((sum, one) => sum + one, 0) / times.length) * (epochs - history.length);
  return left < 1 ? "" : `, at most ${seconds(left)} left`;
}

function summaryOf(job) {
  const parts = [];
  if (job.started_at && job.finished_at) parts.push(`took ${seconds(secondsBetween(job.started_at, job.finished_at))}`);
  if (job.progress.history.length > 0) parts.push(count(job.progress.history.length, "epoch"));
  if (job.model_version !== null) parts.push(`made version ${job.model_version}`);
  return parts.join(", ");
}

function curves(history, epochs) {
  const of = (name) => history.map((one) => one[name]);
  const again = of("valid_loss").findIndex((value, at) => at > 0 && value === null && history[at - 1].valid_loss !== null);
  return [
    lineChart({
      title: "Loss",
      testid: "loss-curve",
      epochs,
      format: (value) => value.toFixed(2),
      series: [
        { name: "training", kind: "first", values: of("train_loss") },
        { name: "validation", kind: "second", values: of("valid_loss") },
      ],
    }),
    lineChart({
      title: "Accuracy",
      testid: "accuracy-curve",
      epochs,
      top: 1,
      format: (value) => percent(value),
      series: [{ name: "validation", kind: "second", values: of("valid_accuracy") }],
    }),
    again > 0 && h("p", { class: "quiet across", testid: "trained-again" }, `From epoch ${again + 1} on it learns anew, now from all examples. Later starts leave a part out, to certify the answers by it.`),
  ].filter(Boolean);
}
