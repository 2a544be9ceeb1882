// Whether messages are still like those that the live version was calibrated on.

import { h, svg } from "./dom.js";
import { count, dateTime, percent } from "./format.js";

const WIDTH = 460;
const HEIGHT = 160;
const LEFT = 46;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 38;

const SAYS = {
  too_few: "Too few messages since it is live to compare them with its calibration.",
  no_window: "This version has no window to compare with: an older one, or too few examples. Train again to watch it.",
  steady: "The messages are like those it was calibrated on.",
  drifted: "The messages are no longer like those it was calibrated on, and its promise may not hold for them. Look at what is asked, add examples, and train.",
};

const MOVED = { confidence: "how sure the network is", instant: "how much it is sure enough of" };

/** Nothing where no version is live. */
export function driftOf(drift) {
  if (drift.state === "no_version") return "";
  const alarm = drift.state === "drifted";
  return h(
    "div",
    { class: "sheet stack tight", testid: "drift", data: { state: drift.state }, role: alarm ? "alert" : null },
    h("div", { class: "row" }, h("h2", {}, "Drift"), h("span", { class: `badge ${alarm ? "failed" : ""}` }, alarm ? "alarm" : drift.state.replace("_", " "))),
    h("p", {}, SAYS[drift.state]),
    alarm && h("p", { testid: "drift-moved" }, `What moved: ${drift.moved.map((one) => MOVED[one]).join(", and ")}; since ${dateTime(drift.alarm_since)}.`),
    !drift.usual_traffic && h("p", {}, "Fewer messages are in scope than was promised for: until that is over, an instant answer takes more."),
    drift.confidence && histogram(drift),
    drift.looked_at && h("p", { class: "quiet" }, `Last looked at ${dateTime(drift.looked_at)}, at ${count(drift.messages, "message")}. Of versions whose messages never change, at most ${percent(drift.false_alarms)} ever raise an alarm.`),
  );
}

/** Shares of the messages by confidence, expected and seen. */
function histogram({ confidence, edges }) {
  const { expected, seen } = confidence;
  const high = Math.max(...expected, ...seen);
  const step = (WIDTH - LEFT - RIGHT) / seen.length;
  const y = (share) => TOP + (1 - share / high) * (HEIGHT - TOP - BOTTOM);
  const bar = (kind, share, x) => svg("rect", { class: `bar ${kind}`, x: x.toFixed(1), width: (step * 0.38).toFixed(1), y: y(share).toFixed(1), height: (HEIGHT - BOTTOM - y(share)).toFixed(1) });
  const title = "Messages by confidence";
  return h(
    "figure",
    { class: "chart drift-chart", testid: "drift-chart" },
    h("figcaption", {}, h("span", {}, title), h("ul", { class: "legend" }, h("li", { class: "expected" }, "calibration"), h("li", { class: "seen" }, "of late"))),
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${seen.map((share, i) => `${nameOf(i, edges)} ${percent(share)} instead of ${percent(expected[i])}`).join("; ")}.` },
      svg("g", { class: "base" }, svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(0), y2: y(0) })),
      seen.map((share, i) => [bar("expected", expected[i], LEFT + (i + 0.1) * step), bar("seen", share, LEFT + (i + 0.5) * step)]),
      edges.map((edge, i) => svg("text", { class: "x", x: LEFT + (i + 1) * step, y: HEIGHT - BOTTOM + 17 }, String(edge))),
      svg("text", { class: "axis-title", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4 }, "confidence"),
    ),
  );
}

const nameOf = (i, edges) => (i === 0 ? `below ${edges[0] ?? 1}` : `from ${edges[i - 1]} on`);
