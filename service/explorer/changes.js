// What is changed of a run: gates that are held at a value, tokens that are left out, replaced or negated. The changed
// run is side B.

import { h, number, percent, replace, segmented, signed } from "./dom.js";
import { negated, replaced } from "./wording.js";

const TOOLS = [["look", "look"], ["shut", "shut gates"], ["open", "open gates"], ["drop", "drop tokens"],
  ["replace", "replace a token"], ["negate", "negate a token"]];
const HINTS = {
  look: "Pick a tool, and change the run: B is then the same text with the change.",
  shut: "Drag over a heat map, or press S on a cell: there the value is the lowest that the gate has, or 0 for a state.",
  open: "Drag over a heat map, or press O on a cell: there the value is the highest that the gate has.",
  drop: "Click a token under “What mattered”: the text is read without it.",
  replace: "Write a word, and click a token under “What mattered”: B is the text with the word in its place. A click on a token of B changes B further.",
  negate: "Click a token under “What mattered”: B is the text with “not” before it, behind it for a verb such as “is”, or without the “not” that is there.",
};
const SETTING = /^(\d{1,3})\.(forward|backward)\.([a-z]+)@(\d{1,4})-(\d{1,4}):([\d,]+|\*)=(-?[\d.]+)$/;

/** Changes as the store keeps them, and the link: `0.forward.forget@2-5:3,7=0;…`. What cannot be read is left out. */
export function parseSettings(text) {
  return text.split(";").map((each) => SETTING.exec(each)).filter(Boolean)
    .map(([, layer, direction, gate, first, last, units, value]) => ({
      layer: Number(layer), direction, gate,
      tokens: Array.from({ length: Number(last) - Number(first) + 1 }, (_, at) => Number(first) + at),
      units: units === "*" ? null : units.split(",").map(Number), // null: all of them
      value: Number(value),
    }))
    .filter(({ tokens }) => tokens.length);
}

const written = ({ layer, direction, gate, tokens, units, value }) =>
  `${layer}.${direction}.${gate}@${tokens[0]}-${tokens.at(-1)}:${units?.join(",") ?? "*"}=${value}`;

export const parseDropped = (text) => [...new Set((text.match(/\d{1,6}/g) ?? []).map(Number))];

/** The fields of a request that ask for the changes of a state; without the tokens that are dropped. */
export function changesOf({ set, drop }) {
  const dropped = parseDropped(drop);
  const settings = parseSettings(set)
    .map(({ units, ...each }) => ({ ...each, ...(units && { units }), tokens: each.tokens.filter((token) => !dropped.includes(token)) }))
    .filter(({ tokens }) => tokens.length);
  return { ...(settings.length && { set: settings }), ...(dropped.length && { drop: dropped }) };
}

/** The ends of a gate's range that shut and open it. A state is shut at 0, and opened at 1. */
export function endsOf(gate, equation) {
  if (equation.includes("sigmoid") || equation.includes("/ (f_t + i_t)")) return { shut: 0, open: 1 };
  return gate === "candidate" ? { shut: -1, open: 1 } : { shut: 0, open: 1 };
}

/** A block with the tools and the list of changes. `store` holds `tool`, `set` and `drop`. */
export function createChanges({ store, announce }) {
  const tools = h("div");
  const hint = h("p", { class: "hint" });
  const word = h("input", { type: "text", id: "word", size: "14", autocomplete: "off", spellcheck: "false" });
  const wording = h("div", { class: "field", hidden: true }, h("label", { for: word.id }, "New word"), word);
  const list = h("ul", { class: "changes", "aria-label": "Changes of B" });
  const moved = h("p", { class: "sum", role: "status" });
  const element = h("div", { class: "card", id: "changes" }, h("div", { class: "row" }, tools, wording), hint, list, moved);

  /** Hold a rectangle of a heat map at a value. */
  function hold({ reading, layer, direction, gate, tokens, units, tool = store.state.tool }) {
    if (!tokens.length || !units.length) return;
    if (reading.text !== store.state.text || reading.model.name !== store.state.model) {
      announce("B reads another text or model: change A");
      return;
    }
    const value = endsOf(gate, reading.equations[gate])[tool];
    const sent = tokens.map((token) => reading.kept[token]);
    const one = { layer, direction, gate, tokens: [Math.min(...sent), Math.max(...sent)], units, value };
    announce(`${gate} of ${units.length} units held at ${value} at ${tokens.length} tokens`);
    change({ set: [current().set, written(one)].filter(Boolean).join(";") });
  }

  /** Leave a token out, by its number in the text as sent; once more, and it is back. */
  function drop(token) {
    const dropped = parseDropped(current().drop);
    const next = dropped.includes(token) ? dropped.filter((each) => each !== token) : [...dropped, token];
    change({ drop: next.sort((one, other) => one - other).join(",") });
  }

  /** What a click on a token of a side does with the tool that is picked. */
  function edit({ reading }, token) {
    const { tool, explain } = store.state;
    if (tool === "drop") return drop(reading.kept[token]);
    const wanted = word.value.trim();
    if (tool === "replace" && !wanted) {
      announce("Write the new word first.");
      return word.focus();
    }
    const text = tool === "replace" ? replaced(reading, token, wanted) : negated(reading, token);
    announce(`B: ${text}`);
    return store.set({ with: reading.model.name, and: text, explained: explain, set: "", drop: "" });
  }

  /** The changes so far; none where B reads something else than A. */
  function current() {
    const { model, text, with: other, and, set, drop: left } = store.state;
    return other === model && and === text ? { set, drop: left } : { set: "", drop: "" };
  }

  /** B becomes the text of A with the changes. */
  function change(patch) {
    const { model, text, explain } = store.state;
    store.set({ ...current(), ...patch, with: model, and: text, explained: explain });
  }

  function show(a, b) {
    const { tool, set, drop: left } = store.state;
    replace(tools, segmented("tool", "Change", TOOLS, tool, (each) => store.set({ tool: each })));
    hint.textContent = HINTS[tool];
    wording.hidden = tool !== "replace";
    const remove = (label, act) => h("button", { type: "button", class: "icon", "aria-label": `undo: ${label}`, title: "undo", on: { click: act } }, "×");
    const entry = (label, act) => h("li", {}, h("span", {}, label), remove(label, act));
    const settings = parseSettings(set);
    const text = (token) => a?.tokens[token]?.text ?? token;
    list.replaceChildren(
      ...settings.map((each, at) => entry(told(each, text),
        () => store.set({ set: settings.filter((_, other) => other !== at).map(written).join(";") }))),
      ...parseDropped(left).map((token) => entry(`without “${text(token)}”`, () => drop(token))));
    list.hidden = !list.children.length;
    const edited = b && a.model.name === b.model.name && a.text !== b.text;
    moved.replaceChildren(...(b?.baseline ? answers(b) : edited ? answers({ baseline: a.prediction, prediction: b.prediction }) : []));
  }

  return { element, show, hold, edit };
}

function told({ layer, direction, gate, tokens, units, value }, text) {
  const where = tokens.length > 1 ? `“${text(tokens[0])}” to “${text(tokens.at(-1))}”` : `“${text(tokens[0])}”`;
  const which = !units ? "all units" : units.length > 1 ? `${units.length} units` : `unit ${units[0]}`;
  return `${gate} = ${number(value, 0)}: ${which}, ${where}, layer ${layer}, ${direction}`;
}

/** The answer without the changes, and with them. */
function answers({ baseline, prediction }) {
  if (!baseline.scores) {
    const names = (found) => found.entities.map(({ text, label }) => `${text} (${label})`).join(", ") || "no entities";
    return [`Without the changes: ${names(baseline)}. With them: `, h("b", {}, names(prediction)), "."];
  }
  const before = baseline.scores[baseline.label];
  const after = prediction.scores[baseline.label];
  return [`“${baseline.label}” goes from ${percent(before)} to `, h("b", { "data-term": "changed" }, percent(after)),
    ` (${signed(100 * (after - before), 1)} points).`];
}
