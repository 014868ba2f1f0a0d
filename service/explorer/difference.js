// Two readings against each other: the shares of their tokens, and what their gates keep.

import { lines } from "./charts.js";
import { h, number, replace, signed, tableBehind } from "./dom.js";
import { chosenLabel } from "./mattered.js";
import { name } from "./statistics.js";

/** A block for B less A, over aligned columns. */
export function createDifference() {
  const chips = h("div", { class: "chips", tabindex: "0", role: "group", "aria-label": "Difference of the shares, token by token" });
  const sum = h("p", { class: "sum" });
  const behind = h("div");
  const shares = h("div", { class: "card", id: "difference" }, h("h3", {}, "Difference: B − A"), chips, sum, behind);
  const kept = { names: h("div", { class: "names" }), chart: h("div", { class: "chart-box" }), behind: h("div") };
  const keeping = h("div", { class: "card", id: "keeping" }, h("h3", {}, "What is kept of the state, A against B"),
    h("p", { class: "hint" }, "The mean over all units of what multiplies the old state: the forget gate, or 1 − update."), kept.names, kept.chart, kept.behind);

  /** Shares of the label of A, where both know it. */
  function showShares(a, b, pairs, labels, label) {
    const known = a.contributions?.labels && b.contributions?.labels;
    const chosen = known && chosenLabel(a.reading, a.contributions, label, a.explain);
    const [one, other] = known ? [a, b].map(({ contributions }) => contributions.labels.indexOf(chosen)) : [-1, -1];
    shares.hidden = one < 0 || other < 0;
    if (shares.hidden) return;
    const given = pairs.map(([i, j]) => [a.contributions.tokens[i]?.[one] ?? 0, b.contributions.tokens[j]?.[other] ?? 0]);
    const less = given.map(([first, second]) => second - first);
    const most = Math.max(...less.map(Math.abs), 1e-9);
    replace(chips, less.map((share, at) => h("span", {
      class: "share", vars: { "--weight": (Math.abs(share) / most).toFixed(3) }, "data-sign": share < 0 ? "against" : "for",
    }, h("span", { class: "chip-text" }, labels[at]), h("span", { class: "chip-share" }, signed(share)))));
    const logits = [a.contributions.logits[one], b.contributions.logits[other]];
    sum.replaceChildren(`logit of “${chosen}”: B `, h("b", {}, number(logits[1])), " − A ", h("b", {}, number(logits[0])), " = ",
      h("b", { "data-term": "difference" }, number(logits[1] - logits[0])));
    behind.replaceChildren(tableBehind("The difference as a table", () => ({
      head: ["column", "text", "A", "B", "B − A"],
      rows: labels.map((text, at) => [at, text, ...given[at].map((share) => number(share, 4)), number(less[at], 4)]),
    })));
  }

  /** What the gates keep, over aligned columns. */
  function showKept(a, b, pairs, labels, layer, direction) {
    const means = [a, b].map(({ reading }) => keptMeans(reading.summaries(layer, direction)));
    keeping.hidden = !means[0] || !means[1];
    if (keeping.hidden) return;
    const values = [0, 1].map((side) => pairs.map((pair) => (pair[side] < 0 ? null : means[side][pair[side]])));
    const less = pairs.map((_, at) => (values[0][at] === null || values[1][at] === null ? null : values[1][at] - values[0][at]));
    const series = [
      { name: `A ${a.reading.model.name}`, hue: "forget", values: values[0] },
      { name: `B ${b.reading.model.name}`, hue: "output", values: values[1] },
      { name: "B − A", hue: "hidden", values: less },
    ];
    name(kept, series);
    const low = Math.min(0, ...less.filter((each) => each !== null));
    kept.chart.replaceChildren(lines({ width: Math.max(260, kept.chart.clientWidth), height: 280, label: "What is kept of the state at each token, A against B. The numbers are in the table below.", series, labels, low, high: 1 }));
    kept.behind.replaceChildren(tableBehind("What is kept as a table", () => ({
      head: ["column", "text", "A", "B", "B − A"],
      rows: labels.map((text, at) => [at, text, ...series.map(({ values: each }) => (each[at] === null ? "" : number(each[at], 4)))]),
    })));
  }

  return { shares, keeping, showShares, showKept };
}

/** The mean share of the state that is kept at each token, or null for a cell without such a gate. */
function keptMeans(summaries) {
  if (summaries?.forget) return summaries.forget.mean;
  return summaries?.update ? summaries.update.mean.map((mean) => 1 - mean) : null;
}
