// A unit's card: its direction in the logits, what is lost without it, where it is most active; and "find this again".
// The service knows places by line and token. Texts are those of a file that the reader picks, which stays in the page.

import { createAgain } from "./again.js";
import { activations, card as ask } from "./client.js";
import { DataFileError, inputsOf, open } from "./datafile.js";
import { h, number, percent, replace, signed } from "./dom.js";
import { excerpt, where } from "./excerpt.js";

/** `onOpen(text, token)` is called when a place is to be read in the page. */
export function createCard({ onOpen }) {
  const facts = h("div", { id: "unit-facts" });
  const notice = h("p", { class: "notice", id: "file-notice", role: "status", hidden: true });
  const places = h("ol", { class: "places", id: "unit-places", "aria-label": "Where the unit is most active" });
  const file = h("input", { type: "file", id: "data-file", on: { change: pick } });
  const again = createAgain({ inputs: () => opening.then(inputs, inputs), onOpen });
  const element = h("div", { class: "card", id: "unit-card" }, h("h3", {}, "The unit's card"), facts, places,
    h("div", { class: "row" }, h("div", { class: "field" }, h("label", { for: file.id }, "Data file"), file)),
    h("p", { class: "hint" }, "The bundle holds numbers of lines and no text. Pick the file, and its texts are shown. It stays in this page; texts that are shown or searched are sent to the service to be read."),
    notice, again.element);
  let data = null; // the file: {name, text, sha256}, and its inputs for a task
  let opening = Promise.resolve(null); // the reading of the file that was picked last
  let shown = null; // what the card is of
  let card = null;
  let asking = null;

  /** A unit of a reading; `units` are those that are looked for again. */
  function show(reading, { layer, direction, unit, gate, token }, units) {
    const key = [reading.model.name, reading.version, layer, direction, unit].join("/");
    const anew = shown?.key !== key;
    shown = { key, reading, layer, direction, unit };
    again.show({ reading, layer, direction, gate, token, units });
    if (anew) load();
  }

  async function load() {
    asking?.abort();
    const mine = (asking = new AbortController());
    card = null;
    facts.replaceChildren();
    places.replaceChildren();
    try {
      const found = await ask(shown.reading, shown, mine.signal);
      if (mine.signal.aborted) return;
      card = found;
      facts.replaceChildren(...told(card));
      await list(mine.signal);
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error.passes) shown.key = null; // the next look asks again
      facts.replaceChildren(h("p", { class: "notice" }, error.message));
    }
  }

  /** A file was picked, or none. */
  async function pick() {
    again.clear();
    data = null;
    const picked = file.files[0];
    tell(picked ? "The file is being read…" : "");
    opening = picked ? open(picked) : Promise.resolve(null);
    try {
      const found = await opening;
      if (picked !== file.files[0]) return; // another one by now
      data = found;
      tell("");
    } catch (error) {
      if (!(error instanceof DataFileError)) throw error;
      return tell(error.message);
    }
    if (!shown) return;
    asking?.abort();
    await list((asking = new AbortController()).signal);
  }

  function tell(text) {
    notice.textContent = text;
    notice.hidden = !text;
  }

  /** The file's inputs, as the model's task reads them; null without a file. Throws DataFileError. */
  function inputs() {
    const { task } = shown.reading.model;
    if (data && data.task !== task) Object.assign(data, { inputs: inputsOf(data, task), task });
    return data && data.inputs;
  }

  /** Put up the places, with their texts if the file is there. */
  async function list(signal) {
    tell("");
    const of = shown;
    const known = card?.places ?? [];
    replace(places, known.map((place) => h("li", {}, where(place), ` ${number(place.value)}`)));
    let all;
    try {
      all = inputs();
    } catch (error) {
      return tell(error.message);
    }
    if (!all || !known.length) return;
    if (!data.sha256) tell("This page cannot compute a SHA-256 here, without HTTPS: the file may be another one than the card's.");
    else if (data.sha256 !== card.data.sha256) {
      return tell(`This is not the file of the card (${card.data.name}): its SHA-256 begins with ${data.sha256.slice(0, 12)}, the card's with ${card.data.sha256.slice(0, 12)}. It can be searched.`);
    }
    const found = known.map(({ line }) => all.find(({ lines }) => lines.includes(line)));
    const there = found.filter(Boolean);
    if (!there.length) return tell("The file has no input on these lines.");
    try {
      const traces = await activations(of.reading, there.map(({ value }) => value), { ...of, gate: "hidden", units: [of.unit] }, signal);
      if (signal.aborted) return;
      replace(places, known.map((place, at) => {
        const trace = found[at] && traces[there.indexOf(found[at])];
        return h("li", {}, where(place), ` ${number(place.value)} `, trace && excerpt(found[at], trace, place.token, 1, onOpen));
      }));
    } catch (error) {
      if (!signal.aborted) tell(error.message);
    }
  }

  return { element, show };
}

/** What a card says, as paragraphs. */
function told({ logits, data, ablation }) {
  const gains = (found) => Object.entries(found).map(([label, gain]) => `${label} ${signed(gain, 3)}`).join(", ");
  const found = [];
  if (logits) found.push(h("p", { "data-term": "logits" }, "Direction in the logits, for each 1 of its state: ", h("b", {}, gains(logits)), "."));
  else found.push(h("p", { class: "hint" }, "It lies below the top layer: the head does not see it."));
  if (!ablation) return [...found, h("p", { class: "hint" }, "This bundle has no cards. ", h("code", {}, "python -m training units models/NAME --data FILE"), " makes them.")];
  found.push(h("p", { "data-term": "ablation" }, "Without it (its state held at 0): ",
    h("b", {}, `${signed(-100 * ablation.cost, 1)} points of ${ablation.metric === "f1" ? "F1" : ablation.metric}`),
    ` from ${percent(ablation.score)}, ${percent(ablation.changed)} of the answers change, and the predicted labels lose `,
    h("b", {}, number(ablation.lost, 4)), ` of their probability (${ablation.inputs} inputs of ${data.name}).`));
  if (ablation.effects) found.push(h("p", { "data-term": "effects" }, "The logits change by ", h("b", {}, gains(ablation.effects)), " in the mean."));
  found.push(h("p", { class: "hint" }, `Most active in ${data.name}, ${data.inputs} inputs:`));
  return found;
}
