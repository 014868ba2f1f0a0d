// Heat maps that grow with a stream: a column a token, the newest on the right, a panel a gate.

import { h, number } from "./dom.js";
import { HeatMap } from "./heatmap.js";
import { coloursOf } from "./plan.js";

/** Tokens that are drawn at once: the last ones. */
export const COLUMNS = 120;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Growing {
  /** `announce(text)` tells a screen reader; `theme()` gives the colours of text and lines. */
  constructor({ theme, announce }) {
    this._theme = theme;
    this._announce = announce;
    this.element = h("div", { class: "panels", id: "live-panels" });
    this.maps = new Map();
    this._cursor = { column: 0, row: 0 };
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** Begin a text: empty panels for the gates of `model`, whose equations are known. */
  begin(model) {
    this._model = model;
    this._tokens = [];
    this._rows = Object.fromEntries(Object.keys(model.equations).map((gate) => [gate, []]));
    if ([...this.maps.keys()].join() !== Object.keys(model.equations).join()) this._make(model);
    this.draw();
  }

  _make(model) {
    this.maps.clear();
    for (const gate of Object.keys(model.equations)) {
      const map = new HeatMap({ id: `live-${gate}`, title: gate, note: "", theme: this._theme });
      map.canvas.addEventListener("keydown", (event) => this._move(event, gate));
      map.canvas.addEventListener("focus", () => this.draw());
      map.canvas.addEventListener("blur", () => this.draw());
      map.canvas.addEventListener("click", ({ offsetX, offsetY }) => {
        const found = this._tokens.length && map.cellAt(offsetX, offsetY, this._view());
        if (found) this._point(gate, found);
      });
      this.maps.set(gate, map);
    }
    this.element.replaceChildren(...[...this.maps.values()].map(({ element }) => element));
  }

  /** One more token, with the activations of each gate by name. */
  add(token, gates) {
    this._tokens.push(token);
    for (const [gate, rows] of Object.entries(this._rows)) {
      rows.push(gates[gate] ?? []);
      if (rows.length > COLUMNS) rows.shift();
    }
    if (this._tokens.length > COLUMNS) this._tokens.shift();
    this._due ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    if (this._due) cancelAnimationFrame(this._due);
    this._due = null;
    if (!this._model) return;
    for (const [gate, map] of this.maps) {
      const width = map.canvas.clientWidth;
      if (!width) continue;
      map.resize(width);
      const rows = this._rows[gate];
      if (!rows.length) {
        map.canvas.setAttribute("aria-label", `${gate}: no token is read yet.`);
        map.clear();
        continue;
      }
      const units = rows[0].length;
      const data = Float32Array.from(rows.flat());
      map.show({
        data, units,
        order: Array.from({ length: units }, (_, unit) => unit),
        columns: rows.map((_, column) => column),
        labels: this._tokens.map(({ text }) => text),
        colours: coloursOf(this._model.equations[gate], { data }),
        description: `${gate}: ${units} units by the last ${rows.length} tokens. Arrow keys move from cell to cell.`,
      });
      const focused = document.activeElement === map.canvas;
      map.draw(this._view(), focused ? { column: this._cursor.column, unit: this._cursor.row } : null);
    }
  }

  _view() {
    return { x: [0, Math.max(1, this._tokens.length)], y: [0, 1] };
  }

  _move(event, gate) {
    const move = MOVES[event.key];
    if (!move || !this._tokens.length) return;
    event.preventDefault();
    this._point(gate, { column: this._cursor.column + move[0], row: this._cursor.row + move[1] });
  }

  /** Put the cursor on a cell, and say its number. */
  _point(gate, { column, row }) {
    const rows = this._rows[gate];
    this._cursor = {
      column: Math.min(Math.max(column, 0), rows.length - 1),
      row: Math.min(Math.max(row, 0), rows[0].length - 1),
    };
    const { t, text } = this._tokens[this._cursor.column];
    this.maps.get(gate).canvas.focus({ preventScroll: true });
    this.draw();
    this._announce(`token ${t} “${text}”, unit ${this._cursor.row}: ${gate} ${number(rows[this._cursor.column][this._cursor.row])}`);
  }
}
