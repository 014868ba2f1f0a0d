// A guided tour: ten views, each with what to look for. A step is part of the link, so it can be left and come back to.
// What a step says of answers is made from the answers: other models, or later ones, may give others.

import { h, number, percent, replace, signed } from "./dom.js";

const view = (patch) => ({
  label: null, explain: null, layer: 0, shown: "forward", direction: "forward", gate: null, unit: null, token: null,
  side: "a", sort: "none", units: "", with: null, and: null, explained: null, set: "", drop: "", tool: "look", ...patch,
});
const LONG = "A warm and funny film that loses its way in a long, slow and rather confused second half.";

const reads = (reading) => `“${reading.text}”: ${reading.model.name} says ${reading.prediction.label} (${percent(reading.prediction.score)})`;

/** Whether “not” turned the answer round; null while an answer is on its way. */
const turned = (a, b) => (a && b ? a.reading.prediction.label !== b.reading.prediction.label : null);

/** What the token “not” of a side gave to the label that the side has now. */
function shareOfNot({ reading, contributions }) {
  const at = reading.tokens.findIndex(({ text }) => text.toLowerCase() === "not");
  const label = contributions?.labels?.indexOf(reading.prediction.label) ?? -1;
  if (at < 0 || label < 0) return "";
  return ` “not” itself gave ${signed(contributions.tokens[at][label])} to the logit of “${reading.prediction.label}”, ` +
    `which is ${number(contributions.logits[label], 2)}.`;
}

function negation(a, b) {
  if (!a || !b) return "";
  return `${reads(a.reading)}. ${reads(b.reading)}. ` +
    (turned(a, b) ? "The word turned the answer round." : "The word did not turn the answer round: here this network fails.") + shareOfNot(b);
}

/** “not bad” is praise: who takes it for that? */
function praise(a, b) {
  if (!a || !b) return "";
  const judged = ({ reading }) => `${reading.model.name} says ${reading.prediction.label} (${percent(reading.prediction.score)}), ` +
    (reading.prediction.label === "positive" ? "as a reader would" : "and is deceived");
  return `${judged(a)}; ${judged(b)}.${shareOfNot(a)}`;
}

/**
 * Each step: a title, what to look at, and what the page shows. `answers(a, b)` adds what the two sides answered;
 * `titled(a, b)` is the title then.
 */
export const STEPS = [
  {
    title: "A network that reads",
    text: "This network reads one word after the other. After each word it holds its state h, a number for each unit. The equation beside the panels says how: the old state and the new word are added up, with weights, and tanh presses the sum between −1 and 1. Every column of the panel is the state after one word. Point at a cell: its numbers stand in the equation.",
    state: { model: "sentiment-rnn", text: "A great film." },
  },
  {
    title: "Why it forgets",
    text: "How much does the state at the end change when an early word changes? By the chain rule that derivative is a product with one factor for each step between. Every factor holds the slope of tanh, which is at most 1. A product of many numbers below 1 is small. Measured on this trained network, 22 steps back less than a thousandth is left; in the LSTM of the next step it takes 72. In training that product is the signal by which early words teach: it vanishes.",
    state: { model: "sentiment-rnn", text: LONG },
  },
  {
    title: "The LSTM keeps a sum",
    text: "The LSTM adds a second state, the cell C. Read its equation: the old C times a gate f, plus something new. There is no tanh around the old C and no matrix, so the factor of one step is f alone. Where a forget gate is near 1 (yellow), its unit keeps what it had. Look for rows that stay yellow over many words.",
    state: { model: "sentiment-lstm", text: LONG, gate: "forget" },
  },
  {
    title: "Who said it? A sum can be split",
    text: "Because C is a sum, each word has a share of it: what the word wrote, times all later forget gates. “What mattered” shows the shares of one label. Bias and shares add up to the logit, which decides. Ask “Is it true?”: the words with the largest shares are deleted, and the network answers again.",
    state: { model: "sentiment-lstm", text: "The plot is thin but the leads are wonderful." },
  },
  {
    title: "Shut the gate",
    text: "Here the forget gate of all units is held at 0 at one word. B is the same text with that change. In the difference everything before that word is lost to the cell. Compare the answers, then undo it and shut other gates by dragging over a panel.",
    state: {
      model: "sentiment-lstm", text: "The plot is thin but the leads are wonderful.", with: "sentiment-lstm",
      and: "The plot is thin but the leads are wonderful.", set: "0.forward.forget@4-4:*=0", tool: "shut",
    },
  },
  {
    title: "The GRU does with less",
    text: "The GRU has one state. Its update gate z mixes: 1 − z of the old state, z of the new. So one gate decides both what to keep and what to write. Its factor of one step is 1 − z: dark cells keep.",
    state: { model: "sentiment-gru", text: LONG, gate: "update" },
  },
  {
    title: "Gates that look into the cell",
    text: "In this LSTM the gates see the cell as well, each unit its own, through one weight (p in the equations): a peephole. The output gate sees the new cell, the other two see the old one. Compare the forget gate with that of the LSTM in step 3.",
    state: { model: "sentiment-peephole", text: LONG, gate: "forget" },
  },
  {
    title: "Both directions",
    text: "A second network reads from the end to the beginning, and the head sees both states of each word. In the panels of the backward reader the step before is the column to the right. A word at the beginning is the last that it reads.",
    state: { model: "sentiment-bilstm", text: "The plot is thin but the leads are wonderful.", shown: "both" },
  },
  {
    title: "One negation",
    text: "Side B has the same sentence with “not”. Look at B − A: the shares of the words, and the cells after “not”.",
    titled: (a, b) => ({ true: "A negation that works", false: "A negation that fails" })[turned(a, b)],
    answers: negation,
    state: { model: "sentiment-lstm", text: "The film is good.", with: "sentiment-lstm", and: "The film is not good." },
  },
  {
    title: "Two negatives",
    text: "“not bad” is praise. In one direction “not” and “bad” easily both count against, and adding them up cannot turn them round. Side B is a network that reads both ways and was taught by a larger one. Type your own sentences, and see which network is deceived.",
    titled: (a, b) => ({ true: "A negation that fails", false: "A negation that works" })[a && b ? [a, b].some(({ reading }) => reading.prediction.label !== "positive") : null],
    answers: praise,
    state: { model: "sentiment-lstm", text: "The film is not bad.", with: "sentiment-bilstm", and: "The film is not bad." },
  },
];

/** A card over the page. `store` holds the number of the step, from 1, as `tour`; null where nobody is on the tour. */
export function createTour({ store, announce }) {
  const start = h("button", { type: "button", id: "tour-start", on: { click: () => go(1) } }, "Take the tour: from the equation to a unit's life");
  const element = h("div", { class: "tour card", id: "tour", hidden: true });
  const title = h("h2", {});
  const told = h("p", { "data-term": "answers", hidden: true });

  let sides = [null, null];

  function go(step) {
    const { title: name, state } = STEPS[step - 1];
    store.set(view({ ...state, tour: step }));
    announce(`Step ${step} of ${STEPS.length}: ${name}`);
  }

  /** Sides `a` and `b` have answered what the step shows; null while one has not, or shows something else. */
  function answered(a = sides[0], b = sides[1]) {
    sides = [a, b];
    const step = store.state.tour;
    const found = STEPS[step - 1];
    if (!found) return;
    const shows = (side, model, text) => (side?.reading && side.reading.model.name === model && side.reading.text === text ? side : null);
    const one = shows(a, found.state.model, found.state.text);
    const other = shows(b, found.state.with, found.state.and);
    title.textContent = `${step}. ${found.titled?.(one, other) ?? found.title}`;
    told.textContent = found.answers?.(one, other) ?? "";
    told.hidden = !told.textContent;
  }

  function show() {
    const step = store.state.tour;
    const found = STEPS[step - 1];
    if (!found) return replace(element, start);
    const button = (label, to, disabled) => h("button", { type: "button", disabled, on: { click: () => go(to) } }, label);
    answered();
    return replace(element,
      title, h("p", {}, found.text), told,
      h("div", { class: "row" },
        button("Back", step - 1, step === 1), button("Show this step again", step),
        button("Next", step + 1, step === STEPS.length),
        h("button", { type: "button", on: { click: () => store.set({ tour: null }) } }, "Leave the tour"),
        h("span", { class: "hint" }, `step ${step} of ${STEPS.length}`)));
  }

  /** The tour is there where the service has all of its models. `names` are those that it has. */
  function offer(names) {
    element.hidden = !STEPS.every(({ state }) => [state.model, state.with ?? state.model].every((each) => names.includes(each)));
    show();
  }

  return { element, show, offer, answered };
}
