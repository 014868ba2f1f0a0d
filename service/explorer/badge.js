// Is the split true? A badge that is filled when it is asked for: the model runs about once for each token.

import { h, number, percent } from "./dom.js";

/** `measure(signal)` asks the service. */
export function createBadge(measure) {
  const button = h("button", { type: "button", class: "chip", on: { click: ask } }, "Is it true? Delete tokens and see");
  const found = h("span", { class: "badge", role: "status" });
  const element = h("p", { class: "faithfulness" }, button, " ", found);
  let shown = null;
  let running = null;

  /** For another reading, or another explained token, the badge is empty again. */
  function show(reading, explained, there) {
    element.hidden = !there;
    const key = there && `${reading.prediction.tokens ? explained : ""}`;
    if (shown?.reading === reading && shown.key === key) return;
    shown = { reading, key };
    running?.abort();
    found.replaceChildren();
    button.hidden = false;
  }

  async function ask() {
    const mine = (running = new AbortController());
    button.hidden = true;
    found.textContent = "Measuring…";
    try {
      const { label, score, comprehensiveness, sufficiency, deletion } = await measure(mine.signal);
      if (mine.signal.aborted) return;
      const half = deletion.scores[Math.floor(deletion.scores.length / 2)];
      found.replaceChildren(
        "comprehensiveness ", h("b", { "data-term": "comprehensiveness" }, number(comprehensiveness, 3)),
        " · sufficiency ", h("b", { "data-term": "sufficiency" }, number(sufficiency, 3)),
        h("span", { class: "hint" }, ` Without the tokens that it ranks first “${label}” loses ${number(comprehensiveness, 2)} of ${percent(score)}, with them alone ${number(sufficiency, 2)}` +
          (half === undefined ? "." : `; without half of all it is left with ${percent(half)}.`)));
    } catch (error) {
      if (mine.signal.aborted) return;
      found.textContent = error.message;
      button.hidden = false;
    }
  }

  return { element, show };
}
