// Pick a model, type a text, and read the answer: one card for each text that is read.

import { h, percent } from "./dom.js";

export const EXAMPLES = {
  sentiment: [
    "The plot is thin and the jokes are not funny, but the two leads are wonderful.",
    "Not good at all.",
    "I expected to be bored, and I was not.",
  ],
  ner: [
    "President George Bush flew from Washington to Iraq.",
    "Ada Lovelace lived in London.",
    "The United Nations and Google opened an office in Paris.",
  ],
};
const TASKS = { sentiment: "Sentiment", ner: "Named entities" };
const KINDS = { PER: "person", LOC: "place", ORG: "organisation", MISC: "other" };

/** What a model is, in a line. */
export function facts(model) {
  const parts = [
    model.cell.toUpperCase(),
    model.directions.length > 1 ? "two directions" : "one direction",
    `${model.layers} layer${model.layers > 1 ? "s" : ""} of ${model.hidden} units`,
  ];
  const best = model.quality.filter((score) => score.metric === "f1" || score.metric === "accuracy").slice(0, 2);
  const metric = { f1: "F1", accuracy: "accuracy" };
  const figures = best.map((score) => `${score.data} ${metric[score.metric]} ${percent(score.value)}`);
  const raw = (model.raw_text ?? []).slice(0, 1).map((found) => `on raw text ${percent(found.f1)}`);
  return [...parts, ...figures, ...raw].join(" · ");
}

/** What a tagger's figures on tokens do not say of raw text; empty where there is nothing to say. */
export function rawNotice(model) {
  const found = (model.raw_text ?? []).find(({ recut }) => recut);
  return found
    ? `Raw text is cut otherwise than ${found.data} in ${found.recut} of its ${found.entities} names: ` +
      `F1 ${percent(found.f1)} there, ${percent(found.f1_tokens)} on the corpus's own tokens.`
    : "";
}

/** A card. `onModel(name)` and `onText(text)` tell what was chosen and typed; `id` keeps two cards apart. */
export function createAsk({ id, legend, onModel, onText }) {
  const select = h("select", { id: `model-${id}`, on: { change: () => onModel(select.value) } });
  const about = h("p", { class: "facts", id: `facts-${id}` });
  const raw = h("p", { class: "facts", id: `raw-${id}` });
  const text = h("textarea", {
    id: `text-${id}`, rows: "3", spellcheck: "false", placeholder: "Type or paste a text, or pick one below.",
    on: { input: () => onText(text.value) },
  });
  const examples = h("div", { class: "examples", role: "group", "aria-label": "Examples" });
  const answer = h("div", { class: "answer", role: "status", "aria-label": "Answer" });
  const element = h("div", { class: "ask card" },
    h("div", { class: "question" },
      h("div", { class: "field" }, h("label", { for: select.id }, legend && h("span", { class: "letter" }, legend), "Model"), select),
      about, raw,
      h("label", { for: text.id, class: "unseen" }, legend ? `Text ${legend}` : "Text"), text, examples),
    answer);

  return {
    element,
    text,
    /** Offer the models, grouped by task, and show the one that is chosen. */
    offer(models, chosen, value) {
      const groups = Map.groupBy(models, (model) => model.task);
      select.replaceChildren(...[...groups].map(([task, members]) =>
        h("optgroup", { label: TASKS[task] ?? task }, members.map((model) =>
          h("option", { value: model.name, title: facts(model) },
            `${model.name} (${model.cell.toUpperCase()}, ${model.hidden} units${headline(model)})`)))));
      select.value = chosen.name;
      about.textContent = facts(chosen);
      raw.textContent = rawNotice(chosen);
      raw.hidden = !raw.textContent;
      if (text.value !== value) text.value = value;
      examples.replaceChildren(...(EXAMPLES[chosen.task] ?? []).map((example) =>
        h("button", { type: "button", class: "chip", on: { click: () => { text.value = example; onText(example); } } }, example)));
    },
    /** Put a text that was not typed into the field. */
    write(value) {
      if (text.value !== value) text.value = value;
    },
    busy(is) {
      element.setAttribute("aria-busy", String(is));
    },
    empty() {
      if (!answer.querySelector(".hint")) answer.replaceChildren(h("p", { class: "hint" }, "The answer appears here as you type."));
    },
    fail(message) {
      answer.replaceChildren(h("div", { class: "problem", role: "alert" }, h("strong", {}, "No answer"), h("p", {}, message)));
    },
    show(reading) {
      const parts = reading.prediction.scores ? classification(reading) : entities(reading);
      const cut = reading.prediction.truncated &&
        h("p", { class: "notice" }, `The text is over the model's limit: its first ${reading.tokens.length} tokens were read.`);
      answer.replaceChildren(...[parts, cut].flat().filter(Boolean));
    },
  };
}

function headline({ quality }) {
  const score = quality.find(({ metric }) => metric === "f1" || metric === "accuracy");
  return score ? `, ${(100 * score.value).toFixed(1)} % ${score.metric === "f1" ? "F1" : "accuracy"}` : "";
}

function classification({ prediction }) {
  const bars = Object.entries(prediction.scores).map(([label, score]) =>
    h("div", { class: "bar", "data-label": label, "data-chosen": String(label === prediction.label) },
      h("span", { class: "bar-label" }, label),
      h("span", { class: "bar-track", "aria-hidden": "true" }, h("span", { class: "bar-fill", vars: { "--share": String(score) } })),
      h("span", { class: "bar-value" }, percent(score))));
  return [h("p", { class: "verdict" }, prediction.label), h("div", { class: "bars" }, bars)];
}

/** The kinds of entities by how they are coloured: known ones have their own colour. */
const hue = (label) => (label in KINDS ? label : "MISC");

function entities({ prediction, slice, text }) {
  const nodes = [];
  let at = 0;
  for (const entity of prediction.entities) {
    nodes.push(slice(at, entity.start));
    nodes.push(h("mark", { class: "entity", "data-kind": hue(entity.label), title: `${KINDS[entity.label] ?? entity.label}, ${percent(entity.score)}` },
      slice(entity.start, entity.end), h("span", { class: "tag" }, entity.label, h("span", { class: "unseen" }, ` ${percent(entity.score)}`))));
    at = entity.end;
  }
  nodes.push(slice(at, [...text].length));
  const count = prediction.entities.length;
  return [
    h("p", { class: "verdict" }, count ? `${count} ${count > 1 ? "entities" : "entity"}` : "No entities"),
    h("p", { class: "tagged" }, nodes),
  ];
}
