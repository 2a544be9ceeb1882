// A line chart for a few short series: axes, grid, legend, drawn as SVG.

import { h, svg } from "./dom.js";

const WIDTH = 460;
const HEIGHT = 240;
const LEFT = 46;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 38;

/**
 * `series`: [{name, kind, values: [number|null]}], one value per epoch from 1 on; `kind` is the
 * class that colours it. `epochs` is where the horizontal axis ends, `top` where the vertical one
 * does (by default above the largest value).
 */
export function lineChart({ title, series, epochs, top = null, bottom = 0, format, testid }) {
  const values = series.flatMap((one) => one.values).filter(Number.isFinite);
  const high = top ?? (values.length > 0 ? niceCeiling(Math.max(0.01, ...values)) : 4);
  const last = Math.max(2, epochs);
  const x = (epoch) => LEFT + ((epoch - 1) / (last - 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => {
    const share = (Math.min(value, high) - bottom) / (high - bottom);
    return TOP + (1 - Math.max(0, share)) * (HEIGHT - TOP - BOTTOM);
  };
  return h(
    "figure",
    { class: "chart", testid },
    h("figcaption", {}, h("span", {}, title), legend(series, format)),
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": summary(title, series, format) },
      rows(bottom, high, y, format),
      columns(last, x),
      svg("text", { class: "axis-title", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4 }, "epoch"),
      series.map((one) => line(one, x, y)),
    ),
  );
}

function legend(series, format) {
  return h(
    "ul",
    { class: "legend" },
    series.map((one) =>
      h("li", { class: one.kind }, `${one.name} `, h("b", {}, lastOf(one) === null ? "–" : format(lastOf(one)))),
    ),
  );
}

function summary(title, series, format) {
  const parts = series.map((one) => {
    const seen = one.values.filter(Number.isFinite);
    if (seen.length === 0) return `${one.name}: nothing yet`;
    return `${one.name}: from ${format(seen[0])} to ${format(seen.at(-1))} over ${seen.length} epochs`;
  });
  return `${title}. ${parts.join("; ")}.`;
}

function rows(bottom, high, y, format) {
  return [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const value = bottom + share * (high - bottom);
    return svg(
      "g",
      { class: share === 0 ? "base" : "grid" },
      svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { class: "y", x: LEFT - 8, y: y(value) + 4 }, format(value)),
    );
  });
}

function columns(last, x) {
  const step = Math.max(1, Math.ceil((last - 1) / 6));
  const epochs = [1];
  for (let epoch = 1 + step; epoch <= last; epoch += step) epochs.push(epoch);
  return epochs.map((epoch) => svg("text", { class: "x", x: x(epoch), y: HEIGHT - BOTTOM + 17 }, String(epoch)));
}

function line(one, x, y) {
  const points = one.values
    .map((value, i) => (Number.isFinite(value) ? [x(i + 1), y(value)] : null))
    .filter((point) => point !== null);
  const group = svg("g", { class: `line ${one.kind}` });
  if (points.length === 0) return group;
  const [endX, endY] = points.at(-1);
  group.append(
    svg("polyline", { points: points.map((point) => point.map((n) => n.toFixed(1)).join(",")).join(" ") }),
    svg("circle", { cx: endX.toFixed(1), cy: endY.toFixed(1), r: 3.5 }),
  );
  return group;
}

const lastOf = (one) => one.values.filter(Number.isFinite).at(-1) ?? null;

/** The next of 1, 2, 4, 6, 8 times a power of ten: each quarter of it is a short number. */
function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 4, 6, 8, 10].find((step) => step * power >= value * 1.02) ?? 10);
}
