// The ledger: what turns took and cost, and which way they went, day by day.

import { api, withQuery } from "./api.js";
import { h, svg } from "./dom.js";
import { count, dateTime, milliseconds, percent } from "./format.js";
import { proofOf } from "./proof.js";

const ROUTES = ["instant", "clarify", "generate"];
const DAYS = [7, 30, 90];
const WIDTH = 720;
const HEIGHT = 220;
const LEFT = 46;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 30;
const MOST_INTENTS = 12;

export class LedgerSection {
  constructor(panel) {
    this.days = h("select", { "aria-label": "Time", testid: "ledger-days", onChange: () => this.show() }, DAYS.map((days) => h("option", { value: days, selected: days === 30 }, `Last ${days} days`)));
    this.table = h("a", { class: "button", testid: "ledger-csv" }, "Download as CSV");
    this.figures = h("div", { class: "figures", testid: "ledger-figures" });
    this.budget = h("div", {});
    this.picture = h("div", { class: "sheet" });
    this.proof = h("div", {});
    this.tables = h("div", { class: "stack" });
    panel.append(
      h(
        "header",
        { class: "panel-head" },
        h("div", {}, h("h1", {}, "Ledger"), h("p", { class: "lead" }, "What the turns took and cost, and which way they went. What runs here costs its CPU time, an engine elsewhere its tokens.")),
        h("div", { class: "row" }, this.days, this.table),
      ),
      this.figures,
      this.budget,
      this.picture,
      this.proof,
      this.tables,
    );
  }

  async show() {
    const since = new Date(Date.now() - this.days.value * 86_400_000).toISOString();
    this.table.href = withQuery("admin/ledger/turns.csv", { since });
    const [ledger, proof] = await Promise.all([api.get(withQuery("admin/ledger", { since })), api.get(withQuery("admin/ledger/proof", { since }))]);
    const money = moneyIn(ledger.prices.currency);
    this.figures.replaceChildren(...figuresOf(ledger, money));
    this.budget.replaceChildren(budgetOf(ledger, money));
    this.picture.replaceChildren(dayChart(ledger.by_day));
    this.proof.replaceChildren(proofOf(proof, money));
    this.tables.replaceChildren(
      tableOf("By route", "route", ledger.by_route.map((one) => [one.route ?? "ended before", one.totals]), money),
      tableOf("By intent", "intent", ledger.by_intent.slice(0, MOST_INTENTS).map((one) => [`${one.intent ?? "none"} (${one.route ?? "ended before"})`, one.totals]), money),
      tableOf("By generator", "generator", ledger.by_generator.filter((one) => one.generator).map((one) => [one.generator, one.totals]), money),
    );
  }
}

/** Costs of one turn are tiny: as many digits as it takes. */
function moneyIn(currency) {
  const format = new Intl.NumberFormat("en", { style: "currency", currency, minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
  return (value) => format.format(value);
}

function figuresOf({ totals, by_route: routes }, money) {
  const instant = routes.find((one) => one.route === "instant")?.totals.turns ?? 0;
  const missing = [
    totals.unmeasured > 0 && `without ${count(totals.unmeasured, "reply", "replies")} that nobody measured`,
    totals.estimated > 0 && `tokens of ${count(totals.estimated, "reply", "replies")} estimated`,
  ].filter(Boolean);
  return [
    figure(totals.turns.toLocaleString("en"), "turns", "ledger-turns"),
    figure(totals.turns > 0 ? percent(instant / totals.turns) : "–", "answered at once", "ledger-instant"),
    figure(money(totals.cost), missing.join("; ") || "all together", "ledger-cost"),
    figure(totals.turns > 0 ? money((1000 * totals.cost) / totals.turns) : "–", "a thousand turns", "ledger-cost-of-turns"),
  ];
}

const PRESSURES = {
  none: "",
  overload: "Most places of the generator are taken.",
  budget: "Most of it is spent: the looser promise counts, where there is one.",
  spent: "It is spent: until then the bot answers what it knows, asks back, or says that it cannot.",
};

/** Nothing where there is no budget. */
function budgetOf({ budget, totals }, money) {
  if (!budget) return "";
  const refused = totals.over_budget > 0 && `${count(totals.over_budget, "turn")} found it spent.`;
  return h(
    "div",
    { class: "sheet stack tight", testid: "ledger-budget", data: { pressure: budget.pressure } },
    h("div", { class: "row" }, h("h2", {}, "Budget for generating"), h("span", { class: `badge ${budget.pressure === "spent" ? "failed" : ""}` }, percent(budget.cost / budget.limit))),
    h("meter", { min: 0, max: budget.limit, high: 0.8 * budget.limit, value: budget.cost, "aria-label": "Spent today" }),
    h("p", {}, [`${money(budget.cost)} of ${money(budget.limit)} until ${dateTime(budget.ends_at)}.`, PRESSURES[budget.pressure], refused].filter(Boolean).join(" ")),
  );
}

const figure = (value, says, testid) => h("p", { class: "figure", testid }, h("b", {}, value), h("small", {}, says));

function tableOf(title, kind, rows, money) {
  if (rows.length === 0) return "";
  return h(
    "div",
    { class: "sheet across-scroll" },
    h("h2", {}, title),
    h(
      "table",
      { class: "figures-table", testid: `ledger-by-${kind}` },
      h("thead", {}, h("tr", {}, [kind, "turns", "cost", "CPU", "tokens in", "tokens out", "reading", "first word", "whole"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map(([name, totals]) => row(name, totals, money))),
    ),
  );
}

function row(name, totals, money) {
  const time = (value) => (value === null ? "–" : milliseconds(value));
  const { means } = totals;
  const cells = [
    totals.turns.toLocaleString("en"),
    money(totals.cost),
    `${(totals.classify_cpu_seconds + totals.generator_cpu_seconds).toFixed(2)} s`,
    totals.prompt_tokens.toLocaleString("en"),
    totals.reply_tokens.toLocaleString("en"),
    time(means.classify_ms),
    time(means.first_piece_ms),
    time(means.total_ms),
  ];
  return h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, name)), cells.map((one) => h("td", {}, one)));
}

/** A column a day, in it the turns of each route. */
function dayChart(days) {
  const high = Math.max(1, ...days.map((one) => one.totals.turns));
  const step = (WIDTH - LEFT - RIGHT) / Math.max(1, days.length);
  const y = (turns) => TOP + (1 - turns / high) * (HEIGHT - TOP - BOTTOM);
  const turns = days.reduce((sum, one) => sum + one.totals.turns, 0);
  return h(
    "figure",
    { class: "chart days", testid: "ledger-chart" },
    h("figcaption", {}, h("span", {}, "Turns by day"), h("ul", { class: "legend" }, ROUTES.map((route) => h("li", { class: route }, route)))),
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Turns by day and route. ${count(turns, "turn")} on ${count(days.length, "day")}.` },
      [0, 0.5, 1].map((share) =>
        svg(
          "g",
          { class: share === 0 ? "base" : "grid" },
          svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(share * high), y2: y(share * high) }),
          svg("text", { class: "y", x: LEFT - 8, y: y(share * high) + 4 }, String(Math.round(share * high))),
        ),
      ),
      days.map((day, place) => column(day, LEFT + place * step, step, y)),
      days.filter((_, place) => place % Math.ceil(days.length / 8) === 0).map((day) => svg("text", { class: "x", x: LEFT + (days.indexOf(day) + 0.5) * step, y: HEIGHT - 8 }, day.day.slice(5))),
    ),
  );
}

function column(day, x, step, y) {
  let below = 0;
  const width = Math.min(48, step * 0.8);
  return ROUTES.map((route) => {
    const turns = day.routes[route] ?? 0;
    const top = y(below + turns);
    const bar = svg("rect", { class: `bar ${route}`, x: (x + (step - width) / 2).toFixed(1), width: width.toFixed(1), y: top.toFixed(1), height: (y(below) - top).toFixed(1) }, svg("title", {}, `${day.day}, ${route}: ${turns}`));
    below += turns;
    return turns > 0 && bar;
  });
}
