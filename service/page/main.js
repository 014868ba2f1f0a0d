// The page: what the person does goes into the store, what the service answers into readings, and both onto the screen.

import { createAsk, EXAMPLES } from "./ask.js";
import { describeModel, explain, listModels, read, setKey } from "./client.js";
import { debounce, h } from "./dom.js";
import { controls, Gates, planOf } from "./gates.js";
import { createMattered } from "./mattered.js";
import { Store } from "./store.js";
import { createUnit } from "./unit.js";

const TYPING = 160;
const section = (name) => document.getElementById(name);
const announce = (text) => (section("live").textContent = text);

const store = new Store();
const page = { models: [], reading: null, contributions: null };

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return { ink: colour("--ink"), muted: colour("--muted"), line: colour("--line"), surface: colour("--surface") };
}
let colours = theme();

const ask = createAsk({
  id: "a",
  onModel: (model) => store.set({ model, label: null, explain: null }),
  onText: (text) => store.set({ text, explain: null }),
});
const mattered = createMattered({
  id: "a",
  onLabel: (label) => store.set({ label }),
  onToken: (token) => store.set({ explain: token, label: null }),
});
const gates = new Gates(store, { theme: () => colours, announce });
const unit = createUnit({ onToken: (token) => store.set({ token }), onUnit: (number) => pickUnit(number) });

section("ask").append(ask.element);
section("mattered").append(mattered.element);
section("gates").append(gates.element);
section("unit").append(unit.element);

const modelNow = () => page.models.find(({ name }) => name === store.state.model);

function pickUnit(number) {
  if (Number.isInteger(number) && number >= 0 && number < page.reading.model.hidden) store.set({ unit: number });
}

let reader = null;

/** Read the text as it is now. An answer that comes after the next question is dropped. */
async function ask_() {
  reader?.abort();
  const model = modelNow();
  const { text, layer, direction } = store.state;
  if (!text.trim()) {
    forget();
    return ask.empty();
  }
  const mine = (reader = new AbortController());
  ask.busy(true);
  try {
    const reading = await read(model, text, { layer, direction: direction ?? "forward", signal: mine.signal });
    if (mine !== reader) return;
    page.reading = reading;
    page.contributions = reading.contributions;
    ask.show(reading);
    showAll();
    if (reading.prediction.tokens) await split();
  } catch (error) {
    if (mine !== reader || error.name === "AbortError") return;
    forget();
    fail(error);
  } finally {
    if (mine === reader) ask.busy(false);
  }
}

const askSoon = debounce(ask_, TYPING);

function forget() {
  page.reading = page.contributions = null;
  for (const name of ["mattered", "gates", "unit"]) section(name).hidden = true;
}

function fail(error) {
  ask.fail(error.message);
  if (error.status === 401) askForKey();
}

/** The token of a tagger whose decision is split: the one that was picked, else the first entity's. */
function explained() {
  const { tokens, prediction } = page.reading;
  const picked = store.state.explain;
  return picked !== null && picked < tokens.length ? picked : (prediction.entities[0]?.token_start ?? 0);
}

let splitter = null;

async function split() {
  splitter?.abort();
  const mine = (splitter = new AbortController());
  const { reading } = page;
  try {
    const found = await explain(reading.model, reading.text, explained(), mine.signal);
    if (mine !== splitter || reading !== page.reading) return;
    page.contributions = found;
    showMattered();
  } catch (error) {
    if (mine === splitter && error.name !== "AbortError") fail(error);
  }
}

const identity = (count) => Array.from({ length: count }, (_, at) => at);

/** What of the state holds for this reading. */
function view() {
  const { reading } = page;
  const { directions, layers, hidden } = reading.model;
  const state = { ...store.state, shown: store.state.shown ?? "both" };
  state.layer = Math.min(state.layer, layers - 1);
  if (!reading.has(state.layer, directions[0])) state.layer = reading.layers[0].layer;
  if (!directions.includes(state.direction)) state.direction = directions[0];
  if (state.token !== null) state.token = Math.min(state.token, reading.tokens.length - 1);
  if (state.unit !== null) state.unit = Math.min(state.unit, hidden - 1);
  if (!reading.gates.includes(state.gate)) state.gate = reading.gates[0];
  return state;
}

function showAll() {
  for (const name of ["mattered", "gates"]) section(name).hidden = false;
  showMattered();
  showGates();
  showUnit();
}

function showMattered() {
  const { reading, contributions } = page;
  mattered.show(reading, contributions, { label: store.state.label, explain: reading.prediction.tokens ? explained() : null });
}

function showGates() {
  const { reading } = page;
  const state = view();
  const directions = reading.model.directions.filter((each) =>
    (state.shown === "both" || state.shown === each) && reading.has(state.layer, each));
  gates.panels.classList.toggle("paired", directions.length > 1);
  gates.toolbar.replaceChildren(...controls(reading, state, gates, store));
  gates.notice.hidden = !reading.narrowed;
  gates.notice.textContent = reading.narrowed
    ? "All numbers of this text are more than the service returns at once: those of one layer, or of one direction, are shown."
    : "";
  const orders = Object.fromEntries(directions.map((each) => [each, identity(reading.model.hidden)]));
  gates.show(planOf(reading, state.layer, directions, orders), reading.tokens.map(({ text }) => text), state);
}

function showUnit() {
  const state = view();
  section("unit").hidden = state.unit === null;
  if (state.unit !== null) unit.show(page.reading, state);
}

store.subscribe((state, changed) => {
  if (changed.has("model")) ask.offer(page.models, modelNow(), state.text);
  if (changed.has("model")) return ask_();
  if (changed.has("text")) return askSoon();
  if (!page.reading) return undefined;
  if (changed.has("explain")) return split();
  if (changed.has("label")) return showMattered();
  if (changed.has("layer") && !page.reading.has(state.layer, state.direction ?? "forward")) return ask_();
  if (changed.has("layer") || changed.has("shown")) showGates();
  else gates.follow(view());
  return showUnit();
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours = theme();
  if (page.reading) showGates();
});

function askForKey() {
  if (document.getElementById("key")) return;
  const key = h("input", { id: "key", type: "password", autocomplete: "off", required: true });
  const use = (event) => {
    event.preventDefault();
    setKey(key.value.trim());
    form.remove();
    start();
  };
  const form = h("form", { class: "card key-form", on: { submit: use } },
    h("label", { for: "key" }, "This service asks for an API key. It stays in this tab."), key, h("button", { type: "submit" }, "Use it"));
  section("ask").prepend(form);
  key.focus();
}

async function start() {
  ask.busy(true);
  try {
    const { models, default: defaults } = await listModels();
    page.models = models;
    const first = modelNow() ?? models.find(({ name }) => name === defaults.sentiment) ?? models[0];
    const text = store.state.text || EXAMPLES[first.task]?.[0] || "";
    ask.offer(models, first, text);
    store.state.model = first.name;
    store.state.text = text;
    await ask_();
  } catch (error) {
    fail(error);
  } finally {
    ask.busy(false);
    section("main").setAttribute("aria-busy", "false");
  }
}

start();
