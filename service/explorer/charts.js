// Small charts in SVG: lines over tokens, points in a square, bars over a logarithm.

import { number, s } from "./dom.js";
import ticks from "./vendor/d3-array/ticks.js";

const EDGE = { left: 44, right: 10, top: 8, bottom: 58 };

/** The look of a series: a colour class, a stroke pattern, so that colour is not all that tells them apart. */
const DASHES = [null, "6 3", "2 3", "8 3 2 3", "12 4", "1 3"];

/** A frame with axes. Returns {svg, x(share), y(value), plot}. */
function frame({ width, height, label, low, high, bottom = EDGE.bottom, left = EDGE.left }) {
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label, class: "chart" });
  const plot = { left, top: EDGE.top, width: Math.max(10, width - left - EDGE.right), height: height - EDGE.top - bottom };
  const y = (value) => plot.top + plot.height * (1 - (value - low) / (high - low));
  for (const tick of ticks(low, high, 5)) {
    svg.append(
      s("line", { class: tick === 0 ? "zero" : "grid", x1: plot.left, x2: plot.left + plot.width, y1: y(tick), y2: y(tick) }),
      s("text", { class: "tick", x: plot.left - 7, y: y(tick) + 4, "text-anchor": "end" }, number(tick, high - low > 4 ? 0 : 1)),
    );
  }
  return { svg, plot, y };
}

/**
 * Lines over tokens. `series` are {name, values, hue}; a value of null breaks the line. `onPick(token)` is called for a
 * click; `mark` is a token to mark.
 */
export function lines({ width, height = 220, label, series, labels, low, high, mark = null, onPick }) {
  const { svg, plot, y } = frame({ width, height, label, low, high });
  const step = plot.width / Math.max(1, labels.length);
  const x = (token) => plot.left + (token + 0.5) * step;
  if (mark !== null) svg.append(s("rect", { class: "marked", x: x(mark) - step / 2, y: plot.top, width: step, height: plot.height }));
  const every = Math.max(1, Math.ceil(15 / step));
  labels.forEach((name, token) => {
    if (token % every) return;
    const at = [x(token) + 3, plot.top + plot.height + 14];
    const text = name.length > 10 ? `${name.slice(0, 9)}…` : name;
    svg.append(s("text", { class: "tick", x: at[0], y: at[1], "text-anchor": "end", transform: `rotate(-52 ${at.join(" ")})` }, text));
  });
  series.forEach(({ name, values, hue = name, dash }, at) => {
    const path = values.map((value, token) =>
      value === null ? "" : `${token && values[token - 1] !== null ? "L" : "M"}${x(token).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    svg.append(s("path", { class: "series", "data-series": name, "data-hue": hue, "stroke-dasharray": dash ?? DASHES[at % DASHES.length], d: path }));
    if (values.length <= 60) {
      values.forEach((value, token) => value !== null && svg.append(
        s("circle", { class: "dot", "data-hue": hue, cx: x(token), cy: y(value), r: 2.4 }, s("title", {}, `${name}, ${labels[token]}: ${number(value)}`))));
    }
  });
  if (onPick) {
    svg.addEventListener("click", (event) => {
      const share = ((event.clientX - svg.getBoundingClientRect().left) * width) / svg.clientWidth;
      const token = Math.floor((share - plot.left) / step);
      if (token >= 0 && token < labels.length) onPick(token);
    });
  }
  return svg;
}

/** What the lines are called, beside the chart: names with their stroke. */
export function legend(series) {
  return series.map(({ name, hue = name, dash }, at) =>
    s("svg", { class: "legend-line", width: 26, height: 10, "aria-hidden": "true", "data-name": name },
      s("path", { class: "series", "data-hue": hue, d: "M1 5H25", "stroke-dasharray": dash ?? DASHES[at % DASHES.length] })));
}

/** Ends for a chart's axis around all values, 0 among them, and 1 for what lies in 0..1. */
export function domain(series, least = [0, 1]) {
  const values = series.flatMap(({ values }) => values.filter((value) => value !== null));
  return [Math.min(least[0], ...values), Math.max(least[1], ...values)];
}

const MARGIN = 0.06; // room for points that lie on the edges
const TURN = 2.39996; // the golden angle: points that meet lie like seeds in a sunflower

/** How far the next of the points at one place is moved, so that none hides another. */
function apart(met, place) {
  const count = met.get(place) ?? 0;
  met.set(place, count + 1);
  const far = 0.8 * Math.sqrt(count);
  return [far * Math.cos(count * TURN), far * Math.sin(count * TURN)];
}

/** Points in the unit square: `points` are {x, y, name, hue, id}. */
export function scatter({ width, label, points, xTitle, yTitle, chosen, onPick }) {
  const height = Math.min(width, 320);
  const { svg, plot, y } = frame({ width, height, label, low: -MARGIN, high: 1 + MARGIN, bottom: 44, left: 52 });
  const x = (value) => plot.left + (plot.width * (value + MARGIN)) / (1 + 2 * MARGIN);
  for (const tick of ticks(0, 1, 5)) {
    svg.append(s("text", { class: "tick", x: x(tick), y: plot.top + plot.height + 16, "text-anchor": "middle" }, number(tick, 1)));
  }
  svg.append(
    s("line", { class: "zero", x1: x(0), y1: y(1), x2: x(1), y2: y(0) }),
    s("text", { class: "axis", x: plot.left + plot.width / 2, y: height - 6, "text-anchor": "middle" }, xTitle),
    s("text", { class: "axis", x: 12, y: plot.top + plot.height / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${plot.top + plot.height / 2})` }, yTitle),
  );
  const met = new Map();
  for (const point of points) {
    const chosenHere = point.id === chosen;
    const [across, up] = apart(met, `${point.x},${point.y}`);
    svg.append(s("circle", {
      class: chosenHere ? "point chosen" : "point", "data-hue": point.hue, "data-unit": point.id, cx: (x(point.x) + across).toFixed(1), cy: (y(point.y) + up).toFixed(1),
      r: chosenHere ? 6 : 3, on: { click: () => onPick(point.id) },
    }, s("title", {}, point.name)));
  }
  return svg;
}

/** How many values fall between the powers of `base`: bars, each clickable for its members. */
export function histogram({ width, height = 220, label, values, edges, names, xTitle, onPick }) {
  const bins = edges.slice(0, -1).map((from, at) =>
    values.flatMap((value, id) => (value >= from && (value < edges[at + 1] || at === edges.length - 2) ? [id] : [])));
  const most = Math.max(1, ...bins.map((bin) => bin.length));
  const { svg, plot, y } = frame({ width, height, label, low: 0, high: 1.12 * most, bottom: 44 });
  const step = plot.width / bins.length;
  bins.forEach((bin, at) => {
    const left = plot.left + at * step;
    svg.append(
      s("rect", { class: "column", "data-bin": names[at], x: left + 2, y: y(bin.length), width: step - 4, height: plot.top + plot.height - y(bin.length), on: { click: () => onPick?.(bin) } },
        s("title", {}, `${names[at]} steps: ${bin.length} units${bin.length && bin.length < 13 ? ` (${bin.join(", ")})` : ""}`)),
      bin.length > 0 && s("text", { class: "count", x: left + step / 2, y: y(bin.length) - 4, "text-anchor": "middle" }, String(bin.length)),
      s("text", { class: "tick", x: left + step / 2, y: plot.top + plot.height + 16, "text-anchor": "middle" }, names[at]),
    );
  });
  svg.append(s("text", { class: "axis", x: plot.left + plot.width / 2, y: height - 6, "text-anchor": "middle" }, xTitle));
  return { svg, bins };
}
