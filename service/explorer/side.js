// One text read by one model: its card, its reading, and what mattered in it. The page has one, or two to compare.

import { createAsk, EXAMPLES } from "./ask.js";
import { explain, faithfulness, read, statistics } from "./client.js";
import { debounce } from "./dom.js";
import { createMattered } from "./mattered.js";

const TYPING = 160;

export class Side {
  /**
   * `keys` are the names of model, text and explained token in the store; `events` has read, split, forget and fail.
   * `changes()` gives the fields of a request that change the run; with another text or model they go (`edited`).
   * While `editing()` names a tool, a click on a token is an edit, `onEdit(side, token)`.
   */
  constructor(id, store, keys, events, legend, { changes = () => ({}), onEdit, editing = () => null, edited = {} }) {
    this.id = id;
    this.reading = null;
    this.contributions = null;
    this.failed = null; // the error of the last try
    this.models = [];
    this._store = store;
    this._keys = keys;
    this._events = events;
    this._controllers = {};
    this._changes = changes;
    this.ask = createAsk({
      id, legend,
      onModel: (model) => store.set({ [keys.model]: model, [keys.explain]: null, label: null, ...edited }),
      onText: (text) => store.set({ [keys.text]: text, [keys.explain]: null, ...edited }),
    });
    this.mattered = createMattered({
      id,
      onLabel: (label) => store.set({ label }),
      onToken: (token) => (editing() ? onEdit(this, token) : store.set({ [keys.explain]: token, label: null })),
      measure: (signal) => faithfulness(this.reading, this.explained, signal),
    });
    this.soon = debounce(() => this.read(), TYPING);
  }

  get model() {
    return this.models.find(({ name }) => name === this._store.state[this._keys.model]);
  }

  get text() {
    return this._store.state[this._keys.text] ?? "";
  }

  /** The token of a tagger whose decision is split: the one that was picked, else the first entity's. */
  get explain() {
    if (!this.reading?.prediction.tokens) return null;
    const { tokens, prediction } = this.reading;
    const picked = this._store.state[this._keys.explain];
    return picked !== null && picked < tokens.length ? picked : (prediction.entities[0]?.token_start ?? 0);
  }

  /** The token whose decision is split on the screen. While another is being split, it is the one before. */
  get explained() {
    return this.contributions?.token ?? this.explain;
  }

  /** Whether the screen shows the answer to what is asked now: nothing is on its way, and nothing failed. */
  get settled() {
    return Boolean(this.reading) && !this.failed && !this._splitting &&
      this.reading.model.name === this.model?.name && this.reading.text === this.text &&
      JSON.stringify(this.reading.changes) === JSON.stringify(this._changes());
  }

  /** Offer the models; the first time also a text, where there is none. */
  offer(models, fallback) {
    const first = !this.models.length;
    this.models = models;
    const chosen = this.model ?? fallback;
    const text = this.text || (first && EXAMPLES[chosen.task]?.[0]) || "";
    this.ask.offer(models, chosen, text);
    return { [this._keys.model]: chosen.name, [this._keys.text]: text };
  }

  /** A request that stops the one before it, so that a late answer is dropped. */
  _only(name) {
    this._controllers[name]?.abort();
    return (this._controllers[name] = new AbortController());
  }

  /** Read the text as it is now. */
  async read() {
    this.soon.cancel();
    const mine = this._only("read");
    this._controllers.split?.abort();
    this._splitting = false;
    const { model, text } = this;
    if (!model) return undefined; // the list of models is on its way
    if (!text.trim()) {
      this.failed = null;
      this.forget();
      this.ask.busy(false);
      return this.ask.empty();
    }
    this.ask.busy(true);
    try {
      const { layer, direction } = this._store.state;
      const where = {
        layer: Math.min(layer, model.layers - 1),
        direction: model.directions.includes(direction) ? direction : "forward",
        signal: mine.signal,
        changes: this._changes(),
      };
      const reading = await read(model, text, where);
      if (mine.signal.aborted) return undefined;
      this.reading = reading;
      this.contributions = reading.contributions;
      this.failed = null;
      this.ask.show(reading);
      this._events.read(this);
      await Promise.all([this._statistics(reading, mine), reading.prediction.tokens && this.split()]);
    } catch (error) {
      if (mine.signal.aborted) return undefined;
      this.failed = error;
      this.forget();
      await this._events.fail(error, this);
    } finally {
      if (!mine.signal.aborted) this.ask.busy(false);
    }
    return undefined;
  }

  async _statistics(reading, mine) {
    const found = await statistics(reading, mine.signal);
    if (mine.signal.aborted) return;
    reading.statistics = found;
    this._events.counted(this);
  }

  /** Split a tagger's decision at the token that is picked. */
  async split() {
    const mine = this._only("split");
    const { reading } = this;
    this._splitting = true;
    try {
      const found = await explain(reading, this.explain, mine.signal);
      if (mine.signal.aborted || reading !== this.reading) return;
      this.contributions = found;
      this._splitting = false;
      this._events.split(this);
    } catch (error) {
      if (mine.signal.aborted) return;
      this.failed = error;
      await this._events.fail(error, this);
    }
  }

  forget() {
    this.reading = this.contributions = null;
    this._events.forget(this);
  }

  /** Stop all that runs, and drop what was read: another model is to read, or none. */
  stop() {
    this.soon.cancel();
    for (const controller of Object.values(this._controllers)) controller.abort();
    this.reading = this.contributions = null;
    this.failed = null;
    this._splitting = false;
    this.ask.empty();
    this.ask.busy(false);
  }
}
