// What answering at once saved, and where the generator would have said something else.

import { h, quoted } from "./dom.js";
import { count, dateTime, percent } from "./format.js";

const WAYS = {
  unanswered: "the generator does not know",
  meaning: "about something else",
  values: "other numbers or links",
  names: "other names",
};

export function proofOf(proof, money) {
  const { differing, balance, saved } = proof;
  const share = balance.saved_share;
  return h(
    "div",
    { class: "sheet stack", testid: "proof" },
    h("div", {}, h("h2", {}, "What the split saved"), h("p", { class: "quiet" }, howOf(proof))),
    h(
      "div",
      { class: "figures" },
      measured("proof-saved", "of the cost without the split", share && percent(share[0], 1), share && within(share.slice(1).map((one) => percent(one, 1)))),
      measured("proof-cost", "saved", saved.cost && money(saved.cost.total), saved.cost && within([money(saved.cost.total_low), money(saved.cost.total_high)])),
      measured("proof-seconds", "less to wait, a turn", saved.seconds && `${saved.seconds.mean.toFixed(2)} s`, saved.seconds && within([saved.seconds.mean_low.toFixed(2), saved.seconds.mean_high.toFixed(2)])),
      measured("proof-differing", "answered otherwise", differing.share !== null && percent(differing.share, 1), differing.share !== null && within([percent(differing.low, 1), percent(differing.high, 1)])),
    ),
    differing.count > 0 && h("p", { class: "quiet" }, Object.entries(WAYS).filter(([way]) => proof.differing_in[way].count > 0).map(([way, says]) => `${says}: ${proof.differing_in[way].count}`).join(" · ")),
    proof.items.length > 0 && h("ol", { class: "differing", testid: "differing" }, proof.items.map(differingTurn)),
  );
}

function howOf({ share, compared, instant_turns: instant, waiting, failed }) {
  const parts = [`In idle moments the generator answered ${count(compared, "turn")} as well, of ${count(instant, "instant one")}; nobody was told.`];
  if (share === 0) parts.push("It is turned off: TWOFOLD_PROOF_SHARE is 0.");
  if (waiting > 0) parts.push(`${count(waiting, "more waits", "more wait")} for it.`);
  if (failed > 0) parts.push(`${count(failed, "time", "times")} it gave no answer.`);
  if (compared < 20) parts.push("From twenty on it says what was saved.");
  return parts.join(" ");
}

const within = ([low, high]) => `${low} to ${high}, with 95 % confidence`;

const measured = (testid, says, value, interval) =>
  h("p", { class: "figure", testid }, h("b", {}, value || "–"), h("small", {}, interval ? `${says} (${interval})` : says));

function differingTurn(turn) {
  return h(
    "li",
    { testid: "differing-turn" },
    h("p", {}, quoted(turn.text), h("small", { class: "quiet" }, ` ${turn.intent ?? ""} · ${dateTime(turn.created_at)} · ${turn.differs_in.map((way) => WAYS[way]).join(", ")}`)),
    h("dl", { class: "both" }, h("dt", {}, "at once"), h("dd", { dir: "auto" }, turn.reply), h("dt", {}, turn.generator ?? "generator"), h("dd", { dir: "auto" }, turn.reanswer)),
  );
}
