// The page: what a person does goes into the store, what the service answers into readings, and both onto the screen.

import { align, names } from "./align.js";
import { createCard } from "./card.js";
import { changesOf, createChanges } from "./changes.js";
import { listModels, ServiceError } from "./client.js";
import { createDifference } from "./difference.js";
import { h } from "./dom.js";
import { Gates } from "./gates.js";
import { askForKey } from "./key.js";
import { createLive } from "./live.js";
import { createMissing } from "./missing.js";
import { frameOf, planOf, planOfTwo } from "./plan.js";
import { createRetry } from "./retry.js";
import { Side } from "./side.js";
import { createStatistics } from "./statistics.js";
import { Store } from "./store.js";
import { createTake } from "./take.js";
import { createTour } from "./tour.js";
import { createUnit } from "./unit.js";
import { orderOf, parseUnits } from "./units.js";

const section = (name) => document.getElementById(name);
const announce = (text) => (section("live").textContent = text);
const store = new Store();
const page = { models: [], plan: [], labels: [], pairs: null, starts: 0, starting: false, met: new Set() };

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return { ink: colour("--ink"), muted: colour("--muted"), line: colour("--line"), surface: colour("--surface") };
}
let colours = theme();

const events = { read: showRead, counted: showCounted, split: showSplit, forget: showAll, fail };
const changes = createChanges({ store, announce });
const editing = () => (["drop", "replace", "negate"].includes(store.state.tool) ? store.state.tool : null);
const edits = { onEdit: changes.edit, editing };
const a = new Side("a", store, { model: "model", text: "text", explain: "explain" }, events, "A", edits);
const b = new Side("b", store, { model: "with", text: "and", explain: "explained" }, events, "B", { ...edits, changes: () => changesOf(store.state), edited: { set: "", drop: "" } });
const gates = new Gates(store, { theme: () => colours, announce, hold: changes.hold });
const pickUnit = (unit) => {
  const { reading } = chosenSide();
  if (Number.isInteger(unit) && unit >= 0 && unit < reading.model.hidden) store.set({ unit, gate: view().gate, direction: view().direction });
};
const unit = createUnit({ onToken: (token) => store.set({ token }), onUnit: pickUnit });
const card = createCard({ onOpen: (text, token) => {
  const { model } = chosenSide().reading;
  store.set({ model: model.name, text, token, explain: null, label: null, side: "a", with: null, and: null, explained: null, set: "", drop: "" });
} });
const statistics = Object.fromEntries([a, b].map(({ id }) => [id, createStatistics({
  id,
  onUnit: (picked) => { store.set({ side: id }); pickUnit(picked); },
  onDirection: (direction) => store.set({ direction }),
  onToken: (token) => store.set({ token, side: id }),
})]));
const difference = createDifference();
const tour = createTour({ store, announce });
const live = createLive({ store, announce, theme: () => colours });
const missing = createMissing();
const retry = createRetry(start);
const take = createTake({ store, announce, look: () => ({
  sides: sides(), plan: page.plan, maps: gates.maps, labels: page.labels, view: gates.view, label: store.state.label,
}) });

const compare = h("button", { type: "button", id: "compare", "aria-pressed": "false", on: { click: toggleCompare } }, "Compare");
section("ask").append(missing.element, retry.element, a.ask.element, b.ask.element, h("div", { class: "row" }, compare,
  h("span", { class: "hint" }, "with another model, or another text, token by token")));
section("main").prepend(tour.element);
section("stream").append(live.element);
section("mattered").append(h("div", { class: "stack" }, a.mattered.element, b.mattered.element, difference.shares));
section("gates").append(changes.element, gates.element);
section("unit").append(h("div", { class: "stack" }, unit.element, card.element));
section("statistics").append(h("div", { class: "stack" }, statistics.a.element, statistics.b.element, difference.keeping));
section("take").append(take.element);

const comparing = () => store.state.with !== null;
/** The sides that have been read. */
const sides = () => [a, b].filter(({ reading }) => reading);
/** The sides that are asked for. */
const wanted = () => (comparing() ? [a, b] : [a]);
const settled = () => wanted().every((side) => side.settled);
const chosenSide = () => (store.state.side === "b" && b.reading ? b : a);

function toggleCompare() {
  if (comparing()) return store.set({ with: null, and: null, explained: null, side: "a", set: "", drop: "" });
  return store.set({ with: store.state.model, and: store.state.text, explained: null });
}

/** A side, or the list of models, could not be read. What passes is tried again; a model or version that is gone is looked for. */
async function fail(error, side) {
  side.ask.fail(error.message);
  take.refresh(settled());
  relax();
  if (error.passes) retry.later(error.wait);
  else if (error.status === 401) askForKey(section("ask"), start);
  else if (error.status === 404 && !page.starting) await start();
}

/** Stop trying again where nothing waits for it. */
function relax() {
  if (!wanted().some(({ failed }) => failed?.passes)) retry.stop();
}

function showRead(side) {
  relax();
  showAll();
  // Another version answered than the list names. A canary may do so again and again: it is asked for once.
  const { name, version } = side.reading.model;
  const answered = `${name}/${version}`;
  if (version === side.model.version || page.met.has(answered)) return;
  page.met.add(answered);
  start();
}

function showSplit() {
  showMattered();
  take.refresh(settled());
}

/** What of the state holds for what has been read. */
function view() {
  const { reading } = chosenSide();
  const { directions, layers, hidden } = reading.model;
  const state = { ...store.state, layer: Math.min(store.state.layer, layers - 1) };
  if (!reading.has(state.layer, directions[0])) state.layer = reading.layers[0].layer;
  if (!directions.includes(state.direction)) state.direction = directions[0];
  if (state.token !== null) state.token = Math.min(state.token, reading.tokens.length - 1);
  if (state.unit !== null) state.unit = Math.min(state.unit, hidden - 1);
  if (!reading.gates.includes(state.gate)) state.gate = reading.gates[0];
  if (!reading.gates.includes(state.by)) state.by = reading.gates[0];
  if (comparing() && state.shown === "both") state.shown = "forward";
  return state;
}

function showAll() {
  const there = sides();
  tour.answered(a, comparing() ? b : null);
  const ready = wanted().every(({ reading }) => reading);
  take.refresh(settled());
  for (const name of ["mattered", "gates", "statistics", "take"]) section(name).hidden = !ready;
  b.ask.element.hidden = !comparing();
  compare.setAttribute("aria-pressed", String(comparing()));
  compare.textContent = comparing() ? "Stop comparing" : "Compare";
  a.ask.element.classList.toggle("one-of-two", comparing());
  if (!ready) section("unit").hidden = true;
  if (!ready || !there.length) return;
  page.pairs = comparing() ? align(a.reading.tokens, b.reading.tokens) : null;
  page.labels = page.pairs ? names(page.pairs, a.reading.tokens, b.reading.tokens) : a.reading.tokens.map(({ text }) => text);
  showMattered();
  showGates();
  showUnit();
  showCounted();
}

/** While the first answer is on its way: the panels, empty, and the equations. */
function expectGates({ model }) {
  const { shown, by } = store.state;
  const directions = model.directions.filter((each) => shown === "both" || shown === each);
  section("gates").hidden = false;
  arrange(directions.length);
  gates.control(model, model.gates, { ...store.state, by: model.gates.includes(by) ? by : model.gates[0] }, { both: true });
  gates.expect(model, frameOf(model, directions));
}

function arrange(columns) {
  gates.panels.classList.toggle("triple", columns === 3);
  gates.panels.classList.toggle("paired", columns === 2);
}

const called = ({ id, reading }) => (comparing() ? `${id.toUpperCase()} · ${reading.model.name}` : null);

function showMattered() {
  for (const side of [a, b]) {
    const { reading, contributions, explained } = side;
    side.mattered.element.hidden = !reading;
    if (reading) side.mattered.show(reading, contributions, { label: store.state.label, explain: explained, side: called(side), editing: editing() });
  }
  difference.shares.hidden = true;
  if (page.pairs && b.reading) difference.showShares(a, b, page.pairs, page.labels, store.state.label);
}

function chosenUnits(reading) {
  try {
    return { wanted: parseUnits(store.state.units, reading.model.hidden) };
  } catch (error) {
    return { wanted: null, problem: error.message };
  }
}

function showGates() {
  const state = view();
  changes.show(a.reading, comparing() ? b.reading : null);
  const { layer } = state;
  const shared = comparing() ? a.reading.model.directions.filter((each) => b.reading.model.directions.includes(each)) : a.reading.model.directions;
  const directions = shared.filter((each) => (state.shown === "both" || state.shown === each) && sides().every(({ reading }) => reading.has(layerOf(reading, layer), each)));
  if (!directions.length) directions.push(shared[0]);
  const { wanted: chosen, problem } = chosenUnits(a.reading);
  gates.control(a.reading.model, a.reading.gates, state, { both: !comparing(), problem });
  gates.notice.hidden = !sides().some(({ reading }) => reading.narrowed);
  gates.notice.textContent = "All numbers of this text are more than the service returns at once: those of one layer, or of one direction, are shown.";
  if (comparing()) {
    const same = a.reading.model.name === b.reading.model.name;
    const one = orderOf(a.reading, layer, directions[0], state, chosen);
    const orders = { a: one, b: same ? one : orderOf(b.reading, layerOf(b.reading, layer), directions[0], state, chosenUnits(b.reading).wanted) };
    page.plan = planOfTwo(a.reading, b.reading, page.pairs, layer, directions[0], orders);
  } else {
    const orders = Object.fromEntries(directions.map((each) => [each, orderOf(a.reading, layer, each, state, chosen)]));
    page.plan = planOf(a.reading, layer, directions, orders);
  }
  const triple = page.plan.some(({ side }) => side === "difference");
  arrange(triple ? 3 : comparing() ? 2 : directions.length);
  gates.show(page.plan, page.labels, state);
}

const layerOf = (reading, layer) => Math.min(layer, reading.model.layers - 1);
const directionOf = ({ model }, direction) => (model.directions.includes(direction) ? direction : "forward");

function showUnit() {
  const state = view();
  section("unit").hidden = state.unit === null;
  if (state.unit === null) return;
  const { reading } = chosenSide();
  unit.show(reading, state);
  card.show(reading, { ...state, direction: directionOf(reading, state.direction) }, chosenUnits(reading).wanted ?? [state.unit]);
}

function showCounted() {
  if (section("statistics").hidden) return;
  const state = view();
  for (const side of [a, b]) {
    const { reading } = side;
    statistics[side.id].element.hidden = !reading;
    const mine = { ...state, ...(chosenSide() !== side && { unit: null, token: null }) };
    if (reading) statistics[side.id].show(reading, { ...mine, direction: directionOf(reading, state.direction) }, called(side));
  }
  difference.keeping.hidden = true;
  if (page.pairs && b.reading) difference.showKept(a, b, page.pairs, page.labels, state.layer, state.shown);
  if (state.sort !== "none") showGates();
}

store.subscribe((state, changed) => {
  if (changed.has("tour")) tour.show();
  if (changed.has("live")) live.show();
  if ([...changed].every((key) => key.startsWith("live"))) return;
  follow(state, changed);
  take.refresh(settled());
});

function follow(state, changed) {
  if (changed.has("model") || changed.has("with")) missing.clear();
  if (changed.has("with") && state.with === null) {
    b.stop();
    relax();
    if (!changed.has("model") && !changed.has("text")) return showAll();
  }
  const asked = (side, model, text) => {
    if (changed.has(model)) {
      side.stop();
      side.offer(page.models, side.model);
      showAll();
      if (!comparing()) expectGates(side);
      side.read();
    } else if (changed.has(text)) {
      side.ask.write(side.text);
      side.soon();
    }
    return changed.has(model) || changed.has(text);
  };
  const other = changed.has("set") || changed.has("drop");
  const reads = [asked(a, "model", "text"), comparing() && asked(b, "with", "and")];
  if (other && comparing() && !changed.has("with") && !changed.has("and")) {
    b.read();
    reads.push(true);
  }
  if (reads.some(Boolean) || !wanted().every(({ reading }) => reading)) return undefined;
  if (changed.has("explain")) return a.split();
  if (changed.has("explained")) return b.split();
  if (changed.has("label")) return showMattered();
  if (changed.has("tool")) {
    changes.show(a.reading, comparing() ? b.reading : null);
    return showMattered();
  }
  const unread = sides().filter(({ reading }) => !reading.has(layerOf(reading, state.layer), directionOf(reading, state.direction)));
  if (unread.length) return unread.forEach((side) => side.read());
  if (["layer", "shown", "sort", "by", "units"].some((key) => changed.has(key))) showGates();
  else gates.follow(view());
  showUnit();
  return showCounted();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours = theme();
  if (!section("statistics").hidden) showGates();
});

// A link to another view that is opened in this very page. What a skip link does is no such link.
addEventListener("hashchange", () => location.hash.includes("=") && location.reload());

/** The model to show where none that is served is asked for: the default of the task that was shown. */
function fallback(models, defaults) {
  return models.find(({ name }) => name === defaults[a.model?.task ?? "sentiment"]) ?? models[0];
}

/** Ask for the models, and read what the page's state says. The latest call alone goes on. */
async function start() {
  const mine = ++page.starts;
  page.starting = true;
  a.ask.busy(true);
  b.ask.element.hidden = !comparing();
  try {
    const { models, default: defaults } = await listModels();
    if (mine !== page.starts) return;
    if (!models.length) throw new ServiceError("The service has no model to ask.", 503);
    choose(models, fallback(models, defaults));
    showAll();
    if (!comparing() && !a.reading) expectGates(a);
    await Promise.all(wanted().map((side) => side.read()));
  } catch (error) {
    if (mine !== page.starts) return;
    a.failed = error;
    a.forget();
    fail(error, a);
  } finally {
    if (mine === page.starts) {
      page.starting = false;
      a.ask.busy(false);
      section("main").setAttribute("aria-busy", "false");
    }
  }
}

/** Offer the models. A model that is not served gives way to another, and the page says so. */
function choose(models, other) {
  const names = models.map(({ name }) => name);
  const before = page.models.map(({ name }) => name);
  const gone = [store.state.model, store.state.with].filter((name) => name && !names.includes(name));
  if (gone.includes(store.state.model)) {
    Object.assign(store.state, { label: null, explain: null });
    a.stop();
  }
  if (!names.includes(store.state.with)) {
    Object.assign(store.state, { with: null, and: null, explained: null, side: "a" });
    b.stop();
  }
  page.models = models;
  tour.offer(names);
  live.offer(models);
  Object.assign(store.state, a.offer(models, other));
  if (comparing()) Object.assign(store.state, b.offer(models, other));
  missing.show([...new Set(gone)], names, store.state.model, before);
}

start();
