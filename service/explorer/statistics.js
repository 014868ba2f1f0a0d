// What the gates do over a text: their mean at each token, how often each unit is saturated, how long it remembers.

import { domain, histogram, legend, lines, scatter } from "./charts.js";
import { h, number, replace, segmented, tableBehind } from "./dom.js";
import { isLogistic } from "./equations.js";

const EDGES = [0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, Infinity];
const NAMES = ["<½", "½", "1", "2", "4", "8", "16", "32", "64", "128+"];
const SHORTEST_CHART = 260;

/** A block for one reading. `onUnit(unit)` is called when a point is picked. */
export function createStatistics({ id, onUnit, onDirection, onToken }) {
  const head = h("div", { class: "row" });
  const boxes = { mean: box("Mean of all units, token by token"), saturation: box("Saturation"), horizon: box("Memory horizon") };
  const element = h("div", {}, head, h("div", { class: "boxes" }, Object.values(boxes).map((each) => each.element)));
  let draw = () => {};
  let drawn = 0;
  let of = null;
  new ResizeObserver(() => {
    if (element.clientWidth && element.clientWidth !== drawn) draw();
  }).observe(element);

  function show(reading, { layer, direction, unit, token }, side) {
    const units = reading.unitStatistics(layer, direction);
    const tokens = reading.summaries(layer, direction);
    replace(head, side && h("h3", {}, side), reading.model.directions.length > 1 &&
      segmented(`statistics-direction-${id}`, "Direction", reading.model.directions.map((each) => [each, each]), direction, onDirection));
    if (!units && of === reading.model.name) return;
    if (!units) {
      draw = () => Object.values(boxes).forEach((each) => empty(each)); // another model's numbers
      draw();
      return;
    }
    of = reading.model.name;
    draw = () => {
      drawn = element.clientWidth;
      means(boxes.mean, reading, tokens, token, onToken);
      saturation(boxes.saturation, reading, units, unit, onUnit);
      horizons(boxes.horizon, units, onUnit);
    };
    draw();
  }

  return { element, show };
}

function box(title) {
  const parts = { names: h("div", { class: "names" }), chart: h("div", { class: "chart-box" }), about: h("p", { class: "hint" }), behind: h("div") };
  return { ...parts, element: h("div", { class: "card" }, h("h3", {}, title), parts.names, parts.chart, parts.about, parts.behind) };
}

/** Empty a box; `why` is a sentence that says why there is nothing. */
function empty({ names, chart, about, behind }, why = null) {
  for (const part of [names, about, behind]) part.replaceChildren();
  chart.replaceChildren(...(why ? [h("p", { class: "empty" }, why)] : []));
}

const widthOf = ({ chart }) => Math.max(SHORTEST_CHART, chart.clientWidth);

function means(box, reading, tokens, token, onToken) {
  const series = reading.gates.map((gate) => ({ name: gate, values: tokens[gate].mean }));
  const labels = reading.tokens.map(({ text }) => text);
  const [low, high] = domain(series);
  name(box, series);
  const label = `Mean over all units at each token: ${reading.gates.join(", ")}. The numbers are in the table below.`;
  box.chart.replaceChildren(lines({ width: widthOf(box), height: 300, label, series, labels, low, high, mark: token, onPick: onToken }));
  box.behind.replaceChildren(tableBehind("Means as a table", () => ({
    head: ["token", "text", ...reading.gates],
    rows: labels.map((text, at) => [at, text, ...series.map(({ values }) => number(values[at], 4))]),
  })));
}

export function name(box, series) {
  const strokes = legend(series);
  box.names.replaceChildren(...series.map((each, at) => h("span", { class: "name" }, strokes[at], each.name)));
}

function saturation(box, reading, { gates }, chosen, onUnit) {
  const shown = reading.gates.filter((gate) => isLogistic(reading.equations[gate]));
  if (!shown.length) {
    empty(box, "This cell has no gate between 0 and 1 that could be shut or open.");
    return;
  }
  const points = shown.flatMap((gate) => gates[gate].below.map((below, unit) => ({
    x: below, y: gates[gate].above[unit], id: unit, hue: gate,
    name: `${gate}, unit ${unit}: under 0.1 ${number(100 * below, 0)} % of the time, over 0.9 ${number(100 * gates[gate].above[unit], 0)} %`,
  })));
  box.names.replaceChildren(...shown.map((gate) => h("span", { class: "name" }, h("span", { class: "swatch", "data-hue": gate }), gate)));
  box.chart.replaceChildren(scatter({
    width: Math.min(widthOf(box), 420), points, chosen, onPick: onUnit, xTitle: "share of time under 0.1", yTitle: "share of time over 0.9",
    label: "Saturation: a point for each unit and gate. The numbers are in the table below.",
  }));
  box.about.textContent = "A point is a unit: to the right it is shut most of the time, at the top open; between, it does not decide (after Karpathy, Johnson and Li 2015).";
  box.behind.replaceChildren(tableBehind("Saturation as a table", () => ({
    head: ["unit", ...shown.flatMap((gate) => [`${gate} < 0.1`, `${gate} > 0.9`])],
    rows: gates[shown[0]].below.map((_, unit) => [unit, ...shown.flatMap((gate) => [number(gates[gate].below[unit], 2), number(gates[gate].above[unit], 2)])]),
  })));
}

function horizons(box, { horizon }, onUnit) {
  if (!horizon) {
    empty(box, "This cell has no gate that keeps its state: its memory has no horizon to read off.");
    return;
  }
  const { svg, bins } = histogram({
    width: widthOf(box), height: 300, values: horizon, edges: EDGES, names: NAMES, xTitle: "steps until 1/e of the state is left",
    label: "Memory horizon: how many units remember for how many steps. The numbers are in the table below.",
    onPick: (bin) => bin.length && onUnit(bin[0]),
  });
  box.chart.replaceChildren(svg);
  const longest = [...horizon.keys()].sort((one, other) => horizon[other] - horizon[one]).slice(0, 8);
  box.about.replaceChildren("Longest: ", ...longest.flatMap((unit, at) => [at ? ", " : "", h("button", {
    type: "button", class: "plain", "data-token": unit, on: { click: () => onUnit(unit) },
  }, `unit ${unit}`), ` ${number(horizon[unit], 1)}`]), " steps.");
  box.behind.replaceChildren(tableBehind("Horizons as a table", () => ({
    head: ["unit", "steps"],
    rows: horizon.map((steps, unit) => [unit, number(steps, 2)]),
  })));
}
