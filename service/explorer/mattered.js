// What each token gave to the logit of one label: bias + tokens = logit.

import { createBadge } from "./badge.js";
import { h, number, replace, segmented, signed, tableBehind } from "./dom.js";

/**
 * A block for one reading. `onLabel(label)` and `onToken(number)` tell what was picked; `measure(signal)` asks how
 * faithful the split is.
 */
export function createMattered({ id, onLabel, onToken, measure }) {
  const head = h("div", { class: "row" });
  const chips = h("div", { class: "chips", tabindex: "0", role: "group", "aria-label": "Tokens and what each gave" });
  const sum = h("p", { class: "sum" });
  const about = h("p", { class: "hint" });
  const behind = h("div");
  const badge = createBadge(measure);
  const element = h("div", { class: "card", id: `mattered-${id}` }, head, chips, sum, badge.element, about, behind);

  function show(reading, contributions, { label, explain, side, editing }) {
    const tagger = Boolean(reading.prediction.tokens);
    badge.show(reading, explain, Boolean(contributions?.labels));
    const pick = { onToken, editing };
    if (!contributions?.labels) {
      head.replaceChildren(...(side ? [h("h3", {}, side)] : []));
      sum.replaceChildren();
      behind.replaceChildren();
      about.textContent = contributions?.note ?? reading.note ?? "Splitting the decision…";
      replace(chips, reading.tokens.map((token, at) => chip(reading, token, at, null, tagger, explain, pick)));
      return;
    }
    const chosen = chosenLabel(reading, contributions, label, explain);
    const at = contributions.labels.indexOf(chosen);
    const shares = contributions.tokens.map((row) => row[at]);
    const most = Math.max(...shares.map(Math.abs), 1e-9);
    replace(head,
      side && h("h3", {}, side),
      segmented(`label-${id}`, "Label", contributions.labels.map((each) => [each, each]), chosen, onLabel),
      h("span", { class: "key", "aria-hidden": "true" }, h("span", { class: "against" }, "against"), h("span", { class: "for" }, "for")),
    );
    replace(chips, reading.tokens.map((token, position) =>
      chip(reading, token, position, shares[position], tagger, explain, pick, most)));
    const total = shares.reduce((before, share) => before + share, 0);
    sum.replaceChildren(
      term("bias", contributions.bias[at]), " + ", term("tokens", total), " = ", term("logit", contributions.logits[at]),
      h("span", { class: "sum-of" }, ` of “${chosen}”`, tagger ? ` for token ${explain} “${reading.tokens[explain].text}”` : ""),
    );
    about.replaceChildren(what(contributions.of), h("details", {}, h("summary", {}, "How it is computed"), h("p", {}, contributions.method)));
    behind.replaceChildren(tableBehind("The shares as a table", () => ({
      head: ["token", "text", ...contributions.labels],
      rows: reading.tokens.map((token, position) => [position, token.text, ...contributions.tokens[position].map((share) => number(share, 4))]),
    })));
  }

  return { element, show };
}

/** The label to show: the one asked for, or what was predicted. */
export function chosenLabel(reading, contributions, label, explain) {
  if (contributions.labels.includes(label)) return label;
  return reading.prediction.label ?? reading.prediction.tokens[explain].label;
}

const term = (name, value) => h("span", { class: "term", "data-term": name }, h("span", { class: "term-name" }, name), h("b", {}, number(value, 3)));

function what(of) {
  return of === "tokens"
    ? "The shares are those of the tokens: what each wrote into the layer's state, and what the later gates kept of it. "
    : "The shares are those of the top layer's positions: a position has read its neighbours through the layers below, so its share is that of a word in its context, not of the word alone. ";
}

const EDITS = {
  drop: (text) => `read the text without “${text}”`,
  replace: (text) => `put another word in place of “${text}”`,
  negate: (text) => `negate “${text}”`,
};

function chip(reading, token, at, share, tagger, explain, { onToken, editing }, most = 1) {
  const weight = share === null ? 0 : Math.abs(share) / most;
  const vars = { "--weight": weight.toFixed(3) };
  const tag = tagger ? reading.prediction.tokens[at].label : null;
  const content = [
    h("span", { class: "chip-text" }, token.text),
    share !== null && h("span", { class: "chip-share" }, signed(share)),
    tag && h("span", { class: "chip-tag" }, tag === "O" ? "·" : tag),
  ];
  const begins = at > 0 && reading.sentences.some(([first]) => first === at);
  const props = { class: "share", vars, "data-token": at, ...(begins && { "data-begins": "sentence" }), "data-sign": share === null ? "none" : share < 0 ? "against" : "for" };
  if (!tagger && !editing) return h("span", props, content);
  return h("button", {
    ...props, type: "button", on: { click: () => onToken(at) },
    ...(editing ? { title: EDITS[editing](token.text) }
      : { "aria-pressed": String(at === explain), title: `split the decision for “${token.text}”` }),
  }, content);
}
