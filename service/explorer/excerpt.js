// Some tokens of an input around a place, coloured by what units do there.

import { h, number } from "./dom.js";

const AROUND = 8;

/** "line 5, token 3:" */
export const where = ({ line, token }) => h("b", {}, `line ${line}, token ${token}:`);

/**
 * The tokens around a place of `count` tokens from `token` on, by the mean of the units. `input` is {value, lines};
 * `trace` is {tokens, values}, values being [tokens][units]. `onOpen(text, token)` is called when the place is to be read
 * in the page; the token is null where the text is made of tokens, which the service may cut otherwise.
 */
export function excerpt({ value, lines }, { tokens, values }, token, count, onOpen) {
  if (token + count > tokens.length) return h("span", { class: "hint" }, `the service reads the first ${tokens.length} tokens of it`);
  const from = Math.max(0, token - AROUND);
  const chips = tokens.slice(from, token + count + AROUND).map(({ text }, at) => {
    const row = values[from + at];
    const state = row.reduce((sum, each) => sum + each, 0) / row.length;
    return h("span", {
      class: "share", vars: { "--weight": Math.min(1, Math.abs(state)).toFixed(3) }, "data-sign": state < 0 ? "against" : "for",
      "data-here": from + at >= token && from + at < token + count, title: number(state),
    }, text);
  });
  const whole = Array.isArray(value);
  const read = h("button", {
    type: "button", class: "chip", "aria-label": `read line ${lines[whole ? token : 0]} in the page`,
    on: { click: () => onOpen(whole ? value.join(" ") : value, whole ? null : token + count - 1) },
  }, "read it");
  return h("span", { class: "excerpt" }, from > 0 && "… ", chips, token + count + AROUND < tokens.length && " …", read);
}
