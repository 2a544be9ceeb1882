// What a model version's instant answers are worth: the promise, whether it is kept, and its curve.

import { h, svg } from "./dom.js";
import { count, percent } from "./format.js";

const WIDTH = 460;
const HEIGHT = 220;
const LEFT = 46;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 38;

const BASES = {
  held_out: "kept from training",
  given: "given for it",
  reviewed: "drawn by chance from what people said, and labelled in the review",
  cross_fitted: "each judged by a network trained without it, not by the one that is served",
};

const DOUBTS = {
  nothing_unseen: () => "No examples are at hand that the network has not seen: an older version, or too few examples.",
  one_intent: () => "The examples it was tested on are all of one intent.",
  no_out_of_scope: () => "Nothing out of scope was tried: add out-of-scope examples, and train again.",
  too_few: () => "Too few examples to test it on.",
  too_many_wrong: () => "Too many answers are wrong at every threshold; more examples to test it on would not change that. Allow more, or mend the examples.",
  fewer_in_scope: () => "Fewer of the messages are in scope than it is promised for. Set TWOFOLD_LEAST_IN_SCOPE to what is true of yours, or teach what they ask for.",
};

/** Why nothing is certified. */
export const sayOf = (doubt) => DOUBTS[doubt]();

export function certificateOf(version) {
  const { certificate, certificate_under_pressure: looser } = version;
  return h(
    "details",
    { testid: "certificate", data: { certified: certificate.certified } },
    h("summary", {}, "Promise: ", h("span", { class: `badge ${certificate.certified ? "live" : ""}`, testid: "certified" }, certificate.certified ? "certified" : "uncertified")),
    h("p", {}, promiseOf(certificate)),
    h("p", { testid: "certificate-says" }, certificate.certified ? pointOf(certificate) : doubtOf(certificate)),
    looser && h("p", { testid: "certificate-under-pressure" }, `Under pressure at most ${percent(looser.promise.max_wrong_instant, 1)} may be wrong. ${looser.certified ? pointOf(looser) : "That is not certified, so pressure changes no threshold."}`),
    certificate.basis && h("p", { class: "quiet" }, basisOf(certificate)),
    certificate.curve.length > 0 && riskCoverageChart(certificate),
  );
}

const promiseOf = ({ promise }) =>
  `Of the instant answers at most ${percent(promise.max_wrong_instant, 1)} are wrong, with ${percent(promise.confidence)} confidence, where at least ${percent(promise.least_in_scope)} of the messages are in scope.`;

function basisOf({ basis, inside, outside, unclear, period }) {
  const days = period.length > 0 ? ` Asked from ${period[0]} to ${period[1]}.` : "";
  const doubted = unclear > 0 ? ` Nobody could judge ${count(unclear, "message")}; counted on both sides, as wrong.` : "";
  return `Counted on ${count(inside, "example")} in scope and ${outside} out of scope, ${BASES[basis]}.${days}${doubted}`;
}

const pointOf = ({ point }) =>
  `Kept from an assurance of ${percent(point.threshold, 1)} on, which answers ${percent(point.answered, 1)} of what is in scope at once, and ${percent(point.let_through, 1)} of the rest.`;

function doubtOf(certificate) {
  const { missing_inside: inside, missing_outside: outside, certifiable_from: share } = certificate;
  const parts = [DOUBTS[certificate.doubt]()];
  if (certificate.seen > 0) parts.push(`${count(certificate.seen, "example was", "examples were")} left out: the network was trained on the same words, or they repeat another.`);
  if (certificate.contradictory > 0) parts.push(`${count(certificate.contradictory, "example stands", "examples stand")} under several intents: keep each under one.`);
  if (inside !== null) parts.push(`About ${inside} more in scope and ${outside} more out of scope would do, if they turn out as these.`);
  if (share !== null) parts.push(`It could be promised where ${percent(share)} of the messages are in scope.`);
  parts.push("Until then a stricter default counts.");
  return parts.join(" ");
}

/** How many instant answers are wrong, by how many messages are answered instantly. */
function riskCoverageChart({ curve, promise, point }) {
  const shown = curve.filter((one) => one.coverage > 0.05);
  const promised = promise.max_wrong_instant;
  const high = Math.min(1, Math.max(2 * promised, ...shown.map((one) => one.wrong)));
  const x = (coverage) => LEFT + coverage * (WIDTH - LEFT - RIGHT);
  const y = (wrong) => TOP + (1 - wrong / high) * (HEIGHT - TOP - BOTTOM);
  const own = point && shown.find((one) => one.threshold === point.threshold);
  const title = "Wrong instant answers, by messages answered at once";
  const said = own ? `${title}. Certified: ${percent(own.wrong, 1)} wrong at ${percent(own.coverage)}.` : `${title}. Nothing is certified.`;
  const points = shown.map((one) => `${x(one.coverage).toFixed(1)},${y(one.wrong).toFixed(1)}`).join(" ");
  return h(
    "figure",
    { class: "chart", testid: "risk-coverage" },
    h("figcaption", {}, title),
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said },
      [0, 0.5, 1].map((share) => row(share * high, y, share === 0)),
      [0, 0.25, 0.5, 0.75, 1].map((share) => svg("text", { class: "x", x: x(share), y: HEIGHT - BOTTOM + 17 }, percent(share))),
      svg("text", { class: "axis-title", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4 }, "messages answered at once"),
      svg("g", { class: "line first" }, svg("polyline", { points: `${x(0)},${y(promised)} ${x(1)},${y(promised)}` })),
      svg("g", { class: "line second" }, svg("polyline", { points }), own && svg("circle", { cx: x(own.coverage), cy: y(own.wrong), r: 4 })),
    ),
  );
}

function row(value, y, isBase) {
  return svg(
    "g",
    { class: isBase ? "base" : "grid" },
    svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
    svg("text", { class: "y", x: LEFT - 8, y: y(value) + 4 }, percent(value, 1)),
  );
}
