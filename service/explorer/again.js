// "Find this again": the places of a data file where chosen units do the same as at some tokens of the text.

import { activations } from "./client.js";
import { h, number, replace } from "./dom.js";
import { excerpt, where } from "./excerpt.js";

const AT_ONCE = 64;
/** Inputs of a file that are searched, at most: the service reads each. */
export const MOST = 5000;
const SHOWN = 10;
const LONGEST = 32;

/** `inputs()` promises the file's inputs, once it is read, or null without a file; it throws DataFileError. */
export function createAgain({ inputs, onOpen }) {
  const span = h("input", { type: "number", id: "span", min: "1", max: String(LONGEST), step: "1", value: "1" });
  const find = h("button", { type: "button", id: "find", on: { click: search } }, "Find this again");
  const stop = h("button", { type: "button", id: "find-stop", hidden: true, on: { click: () => searching?.abort() } }, "Stop");
  const told = h("p", { class: "hint", role: "status", id: "found-status" });
  const matches = h("ol", { class: "places", "aria-label": "Where the units do the same" });
  const element = h("div", {}, h("div", { class: "row" }, find,
    h("div", { class: "field" }, h("label", { for: span.id }, "tokens, up to the chosen one"), span), stop), told, matches);
  let shown = null; // {reading, layer, direction, gate, token, units}
  let searching = null;

  /** What is looked for. Places that were found stay while the units and the gate are the same. */
  function show(next) {
    const key = [next.reading.model.name, next.reading.version, next.layer, next.direction, next.gate, next.units].join("/");
    if (shown && shown.key !== key) clear();
    shown = { ...next, key };
  }

  function clear() {
    searching?.abort();
    searching = null;
    stop.hidden = true;
    told.textContent = "";
    matches.replaceChildren();
  }

  /** The nearest places of `all`, [input, trace, token, distance], and how many inputs the service could not read. */
  async function nearestOf(all, of, pattern, mine) {
    let best = [];
    let unread = 0;
    for (let done = 0; done < all.length; done += AT_ONCE) {
      told.textContent = `${done} of ${all.length} inputs searched…`;
      const some = all.slice(done, done + AT_ONCE);
      const traces = await activations(of.reading, some.map(({ value }) => value), of, mine.signal);
      unread += traces.filter((trace) => !trace).length;
      const near = some.map((input, at) => ({ input, trace: traces[at], ...(traces[at] && nearest(traces[at].values, pattern)) }));
      best = [...best, ...near.filter(({ distance }) => distance < Infinity)].sort((one, other) => one.distance - other.distance).slice(0, SHOWN);
    }
    return { best, unread };
  }

  async function search() {
    clear();
    const of = shown;
    if (of.token === null) return void (told.textContent = "Pick a token first: a cell of a heat map, or a point of the chart.");
    const mine = (searching = new AbortController());
    told.textContent = "The file is being read…";
    stop.hidden = false;
    try {
      const every = await stoppable(inputs(), mine.signal);
      if (!every) return void (told.textContent = "Pick a data file first.");
      const count = Math.min(of.token + 1, LONGEST, Math.max(1, Math.trunc(Number(span.value)) || 1));
      const first = of.token - count + 1;
      const { reading, layer, direction, gate, units } = of;
      const pattern = Array.from({ length: count }, (_, at) => units.map((unit) => reading.value(layer, direction, gate, first + at, unit)));
      const words = reading.tokens.slice(first, of.token + 1).map(({ text }) => text).join(" ");
      const all = every.slice(0, MOST);
      const { best, unread } = await nearestOf(all, of, pattern, mine);
      if (mine.signal.aborted) return;
      told.textContent = `${gate} of ${units.length > 1 ? `${units.length} units` : `unit ${units[0]}`} as at “${words}”, in ${all.length} inputs` +
        `${every.length > MOST ? `, the first of ${every.length}` : ""}${unread ? `; ${unread} of them cannot be read` : ""}. ` +
        "The nearest come first: the distance is the root of the mean square of the differences.";
      replace(matches, best.map(({ input, trace, token, distance }) => h("li", { "data-distance": distance.toFixed(4) },
        where({ line: input.lines[Array.isArray(input.value) ? token : 0], token }), ` distance ${number(distance, 4)} `,
        excerpt(input, trace, token, count, onOpen))));
    } catch (error) {
      if (searching !== mine) return; // another search, or none
      told.textContent = error.name === "AbortError" ? "The search was stopped." : error.message;
    } finally {
      if (searching === mine) stop.hidden = true;
    }
  }

  return { element, show, clear };
}

/** The value of a promise, or an AbortError as soon as the signal is given: the reading of a file cannot be stopped. */
function stoppable(promise, signal) {
  const stopped = new Promise((_, fail) => signal.addEventListener("abort", () => fail(signal.reason), { once: true }));
  return Promise.race([promise, stopped]);
}

/** The first place of an input [tokens][units] that is nearest to a pattern [tokens][units]. */
export function nearest(values, pattern) {
  const numbers = pattern.length * pattern[0].length;
  let best = { token: 0, distance: Infinity };
  for (let token = 0; token + pattern.length <= values.length; token++) {
    let sum = 0;
    for (const [at, row] of pattern.entries()) for (const [unit, each] of row.entries()) sum += (values[token + at][unit] - each) ** 2;
    const distance = Math.sqrt(sum / numbers);
    if (distance < best.distance) best = { token, distance };
  }
  return best;
}
