// The cell's equations beside the panels. Under each stands the same with the numbers of the unit that is looked at.
// Where there is no room beside the panels, a readout at the screen's foot has the numbers too.

import { h, number } from "./dom.js";
import { split, substituted, symbols, typeset } from "./equations.js";

/** `onSymbol(gate, go)` is called when a symbol is pointed at, or used. */
export function createInspector(onSymbol) {
  const where = h("p", { class: "where" });
  const list = h("dl", { class: "equations" });
  const element = h("aside", { class: "inspector card", "aria-label": "The cell's equations" },
    h("h3", {}, "The cell"), list, where);
  const readout = h("div", { class: "readout card", role: "status", hidden: true });
  let shown = "";

  function show(reading, cell, gate) {
    const key = `${reading.model.name}/${reading.version}`;
    if (shown !== key) {
      shown = key;
      const gateOf = symbols(reading.equations);
      list.replaceChildren(...Object.entries(reading.equations).map(([gate, equation]) => {
        const { left, right, remark } = split(equation);
        return h("div", { "data-gate": gate },
          h("dt", {}, gate),
          h("dd", {}, h("span", { class: "formula" }, typeset(left, gateOf, onSymbol), " = ", typeset(right, gateOf, onSymbol)),
            remark && h("span", { class: "remark" }, remark), h("span", { class: "numbers" })));
      }));
    }
    numbers(reading, cell);
    read(reading, cell, gate);
  }

  function numbers(reading, cell) {
    if (!cell) {
      where.textContent = "Point at a cell, or move there with the arrow keys, to put its numbers in.";
      for (const node of list.querySelectorAll(".numbers")) node.textContent = "";
      return;
    }
    const gateOf = symbols(reading.equations);
    const { layer, direction, token, unit } = cell;
    where.textContent = describe(reading, cell);
    for (const [gate, equation] of Object.entries(reading.equations)) {
      const valueOf = (name, back) => reading.value(layer, direction, name, token, unit, back);
      const line = `= ${substituted(equation, gateOf, valueOf(gate, 0), valueOf)}`;
      list.querySelector(`[data-gate="${gate}"] .numbers`).textContent = line;
    }
  }

  function read(reading, cell, chosen) {
    readout.hidden = !cell;
    if (!cell) return;
    const { layer, direction, token, unit } = cell;
    readout.replaceChildren(h("p", { class: "hint" }, describe(reading, cell)),
      h("p", { class: "figures" }, reading.gates.map((gate) => h("span", { class: gate === chosen ? "chosen" : null, "data-gate": gate },
        `${gate} `, h("b", {}, number(reading.value(layer, direction, gate, token, unit)))))));
  }

  /** Mark the equation of a gate. */
  function mark(gate) {
    for (const node of list.children) node.classList.toggle("marked", node.dataset.gate === gate);
  }

  return { element, readout, show, mark };
}

/** A cell in words. */
export function describe(reading, { layer, direction, token, unit }) {
  const name = reading.tokens[token].text;
  return `token ${token} “${name}”, unit ${unit}, layer ${layer}, ${direction}`;
}
