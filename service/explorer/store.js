// What the page shows, and the link that shows it again. The link keeps it behind the #, which no server gets to see.

import { debounce } from "./dom.js";

const NUMBERS = new Set(["tour", "layer", "unit", "token", "explain", "explained", "live", "liveAt"]);
const KEYS = [
  "model", "text", "label", "explain", "layer", "shown", "direction", "gate", "unit", "token", "side", "sort", "by", "units",
  "with", "and", "explained", "set", "drop", "tour",
  "live", "liveModel", "liveText", "liveAt",
];

const FRESH = {
  model: null, text: "", label: null, explain: null, layer: 0, shown: "both", direction: null, gate: null, unit: null,
  token: null, side: "a", sort: "none", by: null, units: "", with: null, and: null, explained: null,
  set: "", drop: "", tool: "look",
  tour: null,
  live: null, liveModel: null, liveText: null, liveAt: null,
};

const WRITE_AFTER = 250;

export class Store {
  constructor() {
    this.state = { ...FRESH, ...fromHash(location.hash) };
    this._listeners = [];
    // Browsers refuse an address that changes with every key.
    this._write = debounce(() => history.replaceState(null, "", toHash(this.state)), WRITE_AFTER);
  }

  /** `listener(state, changed)` is called after each change, with the names of what changed. */
  subscribe(listener) {
    this._listeners.push(listener);
  }

  set(patch) {
    const changed = new Set(Object.keys(patch).filter((key) => this.state[key] !== patch[key]));
    if (!changed.size) return;
    this.state = { ...this.state, ...patch };
    this._write();
    for (const listener of this._listeners) listener(this.state, changed);
  }

  /** The address that opens this view. */
  get link() {
    return new URL(toHash(this.state), location.href).href;
  }
}

function toHash(state) {
  const told = new URLSearchParams();
  for (const key of KEYS) if (state[key] !== null && state[key] !== FRESH[key]) told.set(key, state[key]);
  return `#${told}`;
}

function fromHash(hash) {
  const state = {};
  for (const [key, value] of new URLSearchParams(hash.slice(1))) {
    if (!KEYS.includes(key)) continue;
    if (!NUMBERS.has(key)) state[key] = value;
    else if (/^\d{1,6}$/.test(value)) state[key] = Number(value);
  }
  return state;
}
