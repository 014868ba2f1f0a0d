// The cell's equations, as the service prints them: set for reading, and with one unit's numbers put in.

import { h, number } from "./dom.js";

const SYMBOL = /([A-Za-z][~']?)_(\{[^}]*\}|[A-Za-z]+)/y;
const WORD = /[A-Za-z]+/y;
const FUNCTIONS = { sigmoid: "σ", tanh: "tanh" };

/** An equation without the remark that may follow it, and that remark. */
export function split(equation) {
  const [formula, ...remark] = equation.split(/\s{2,}/);
  const [left, right] = formula.split(/ = (.*)/s);
  return { left, right, remark: remark.join(" ").replace(/^\(|\)$/g, "") };
}

/** Symbols to gates: {"f": "forget", "C~": "candidate", …}. */
export function symbols(equations) {
  return Object.fromEntries(
    Object.entries(equations).map(([gate, equation]) => [split(equation).left.split("_")[0], gate]),
  );
}

/** A formula as pieces: {text}, {call}, {base, sub}. */
export function pieces(formula) {
  const found = [];
  let at = 0;
  while (at < formula.length) {
    SYMBOL.lastIndex = WORD.lastIndex = at;
    const symbol = SYMBOL.exec(formula);
    const word = symbol ?? WORD.exec(formula);
    if (symbol) found.push({ base: symbol[1], sub: symbol[2].replace(/[{}]/g, "") });
    else if (word && FUNCTIONS[word[0]]) found.push({ call: word[0] });
    else if (word) found.push({ base: word[0], sub: "" });
    else if (found.length && found.at(-1).text !== undefined) found.at(-1).text += formula[at];
    else found.push({ text: formula[at] });
    at += word ? word[0].length : 1;
  }
  return found;
}

const shown = (text) => text.replaceAll("*", "·").replaceAll("-", "−");

function set(base, sub) {
  const letter = base.endsWith("~") ? base[0] + "\u0303" : base.replace("'", "\u2032");
  return [h("i", {}, letter), sub && h("sub", {}, shown(sub))];
}

/** A formula as nodes. A symbol that has a panel becomes a button: `onSymbol(gate)` is called when it is used. */
export function typeset(formula, gateOf, onSymbol) {
  return pieces(formula).map(({ text, call, base, sub }) => {
    if (text !== undefined) return shown(text);
    if (call) return h("span", { class: "call" }, FUNCTIONS[call]);
    const gate = /^t(-1)?$/.test(sub) ? gateOf[base] : undefined;
    if (!gate) return h("span", {}, set(base, sub));
    const use = { click: () => onSymbol(gate, true), pointerenter: () => onSymbol(gate, false) };
    return h("button", { type: "button", class: "symbol", "data-gate": gate, title: `show the panel ${gate}`, on: use },
      set(base, sub));
  });
}

const INVERSE = { sigmoid: (value) => Math.log(value / (1 - value)), tanh: Math.atanh };

/**
 * The right side with numbers. `valueOf(gate, back)` gives a gate's number now, or one step back.
 *
 * What stands under a matrix is not traced. There the sum under sigmoid or tanh is what it must have been.
 */
export function substituted(equation, gateOf, value, valueOf) {
  const { right } = split(equation);
  const parts = pieces(right);
  const known = parts.every(({ base, sub }) => base === undefined || (/^t(-1)?$/.test(sub) && gateOf[base]));
  if (known) {
    const put = parts.map(({ text, call, base, sub }) =>
      text !== undefined ? shown(text) : call ? FUNCTIONS[call] : number(valueOf(gateOf[base], sub === "t" ? 0 : 1)));
    return `${put.join("")} = ${number(value)}`;
  }
  const outer = parts[0].call;
  const sum = outer ? INVERSE[outer](value) : NaN;
  return Number.isFinite(sum) ? `${FUNCTIONS[outer]}(${number(sum)}) = ${number(value)}` : number(value);
}

// A sigmoid, or one gate's share of two: f / (f + i).
const ONE_SIDED = /^sigmoid\(|^\w_t \/ \(/;

/** Whether a gate lies in 0..1; others lie around 0. */
export const isLogistic = (equation) => ONE_SIDED.test(split(equation).right);
