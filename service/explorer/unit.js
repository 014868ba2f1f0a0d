// One unit over the text: all its gates as curves.

import { domain, legend, lines } from "./charts.js";
import { h, number, tableBehind } from "./dom.js";

/** `onToken(token)` is called when a token of the chart is picked. */
export function createUnit({ onToken, onUnit }) {
  const input = h("input", { type: "number", min: "0", step: "1", id: "unit-number", on: { change: () => onUnit(Number(input.value)) } });
  const title = h("span", { class: "facts" });
  const names = h("div", { class: "names" });
  const chart = h("div", { class: "chart-box" });
  const behind = h("div");
  const element = h("div", { class: "card" },
    h("div", { class: "row" }, h("div", { class: "field" }, h("label", { for: input.id }, "Unit"), input), title), names, chart, behind);
  let again = null;
  new ResizeObserver(() => again?.()).observe(chart);

  function show(reading, { layer, direction, unit, token }) {
    const { gates } = reading;
    input.max = String(reading.model.hidden - 1);
    input.value = String(unit);
    title.textContent = `layer ${layer}, ${direction}${direction === "backward" ? ": it reads from right to left" : ""}`;
    const series = gates.map((gate) => ({ name: gate, values: reading.series(layer, direction, gate, unit) }));
    const strokes = legend(series);
    names.replaceChildren(...gates.map((gate, at) => h("span", { class: "name" }, strokes[at], gate)));
    const [low, high] = domain(series);
    const labels = reading.tokens.map(({ text }) => text);
    let drawn = 0;
    again = () => {
      const width = chart.clientWidth;
      if (!width || width === drawn) return;
      drawn = width;
      const label = `Unit ${unit} over the text: ${gates.join(", ")}. The numbers are in the table below.`;
      chart.replaceChildren(lines({ width, height: 260, label, series, labels, low, high, mark: token, onPick: onToken }));
    };
    again();
    behind.replaceChildren(tableBehind(`Unit ${unit} as a table`, () => ({
      head: ["token", "text", ...gates],
      rows: labels.map((text, at) => [at, text, ...series.map(({ values }) => number(values[at], 4))]),
    })));
  }

  return { element, show };
}
