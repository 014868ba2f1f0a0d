// The heat maps of all gates: what is shown of them, where the cursor is, and how they are drawn together.

import { h, replace } from "./dom.js";
import { listen } from "./gestures.js";
import { HeatMap } from "./heatmap.js";
import { createInspector, describe } from "./inspector.js";
import { Overview } from "./overview.js";
import { controls } from "./toolbar.js";
import { Viewport } from "./viewport.js";

const LONG = 72;

export class Gates {
  /** `theme()` gives colours; `announce(text)` says something to screen readers; `hold(cells)` changes the run there. */
  constructor(store, { theme, announce, hold }) {
    this._hold = hold;
    this._marked = null;
    this._store = store;
    this._theme = theme;
    this._announce = announce;
    this._maps = [];
    this._hover = null;
    this._frame = 0;
    this.view = new Viewport(() => this._schedule());
    this.toolbar = h("div", { class: "toolbar" });
    this.panels = h("div", { class: "panels" });
    this.inspector = createInspector((gate, go) => this.point(gate, go));
    this.overview = new Overview(this.view, theme);
    this.notice = h("p", { class: "notice", hidden: true });
    this.element = h("div", {}, this.toolbar, this.notice, this.overview.element,
      h("div", { class: "gates-body" }, this.panels, this.inspector.element), this.inspector.readout);
    new ResizeObserver(() => this._schedule()).observe(this.panels);
    this._seen = new IntersectionObserver((entries) => {
      for (const entry of entries) entry.target.inSight = entry.isIntersecting;
      this._schedule();
    }, { rootMargin: "120px" });
  }

  /** The heat maps, as the plan has them. */
  get maps() {
    return this._maps;
  }

  /** Put up the panels and the equations of a model whose reading is on its way. */
  expect(model, frame) {
    this._key = this._state = this._hover = null; // the panels of another model go, also where they have the same names
    this._build(frame);
    this.overview.show(null, []);
    for (const map of this._maps) map.drawLegend(map.panel.colours);
    this.inspector.show({ model, equations: model.equations, version: model.version }, null);
    this._schedule();
  }

  /** Show readings: one, or two with `columns` that pair their tokens. `plan` is a list of panels to show. */
  show(plan, labels, state) {
    const before = this._shape;
    this._shape = labels.join(" ");
    if (before !== this._shape) this.view.fit(labels.length, labels.length > LONG * 1.4 ? LONG : labels.length);
    this._build(plan);
    for (const [at, panel] of plan.entries()) {
      const map = this._maps[at];
      map.panel = panel;
      const { shape: [, units], data } = panel.array;
      map.show({ data, units, order: panel.order, columns: panel.columns, labels, colours: panel.colours, description: panel.description });
    }
    const { map, column, row } = this._hover ?? {};
    if (map && !(this._maps.includes(map) && column < map.columns.length && row < map.order.length)) this._hover = null;
    this.overview.show(this._maps[0]?.image, labels);
    this._state = state;
    this._fresh = true;
    this._refresh();
  }

  _build(plan) {
    const key = plan.map((panel) => panel.id).join();
    if (key === this._key) return;
    this._key = key;
    this._seen.disconnect();
    this._maps = plan.map((panel) => {
      const map = new HeatMap({ id: panel.id, title: panel.title, note: panel.note, theme: this._theme });
      map.element.dataset.gate = panel.gate;
      map.panel = panel;
      listen(map, this.view, {
        hover: (cell) => this._look(map, cell),
        pick: (cell) => this._pick(map, cell),
        key: (name) => this._key_(map, name),
        marks: () => ["shut", "open"].includes(this._store.state.tool) && map.panel.side !== "difference",
        mark: (from, to) => this._mark(map, from, to),
        take: (from, to) => this._take(map, from, to),
      });
      this._seen.observe(map.canvas);
      return map;
    });
    this.panels.replaceChildren(...this._maps.map((map) => map.element));
  }

  /** Put the controls over the panels, where they have changed. */
  control(model, names, state, { both, problem }) {
    const { layer, shown, sort, by, units } = state;
    const key = JSON.stringify([model.layers, model.directions, names, layer, shown, sort, by, units, both, problem]);
    if (key === this._controls) return;
    this._controls = key;
    replace(this.toolbar, controls(model, names, state, this, this._store, { both, problem }));
  }

  /** Point at the panel of a gate; with `go`, move there. */
  point(gate, go) {
    for (const map of this._maps) map.element.classList.toggle("pointed", map.panel.gate === gate);
    this.inspector.mark(gate);
    if (!go) return;
    this._maps.find((map) => map.panel.gate === gate)?.canvas.focus();
  }

  _look(map, cell) {
    this._hover = cell && { map, ...cell };
    this._schedule();
    this._inspect();
  }

  _pick(map, { column, row }) {
    const { gate, direction, tokens, side } = map.panel;
    if (tokens[column] < 0) return;
    this._store.set({ gate, direction, token: tokens[column], unit: map.order[row], side: side === "b" ? "b" : "a" });
  }

  /** Show the cells between two, which are to be changed. */
  _mark(map, from, to) {
    this._marked = from && to ? { map, from, to } : null;
    this._schedule();
  }

  /** Change the cells between two. */
  _take(map, from, to, tool) {
    this._mark(map, null);
    if (!to) return;
    const { reading, layer, direction, gate, tokens } = map.panel;
    const between = (one, other) => Array.from({ length: Math.abs(one - other) + 1 }, (_, at) => Math.min(one, other) + at);
    this._hold({
      reading, layer, direction, gate, tool,
      tokens: between(from.column, to.column).map((column) => tokens[column]).filter((token) => token >= 0),
      units: between(from.row, to.row).map((row) => map.order[row]),
    });
  }

  /** The cursor: what the pointer is on, or what was picked, on the panel where it is. */
  _cursorOn(map) {
    const { direction, group } = map.panel;
    if (!this._state) return null;
    if (this._hover) {
      const from = this._hover.map.panel;
      const unit = this._hover.map.order[this._hover.row];
      return from.direction === direction && from.group === group ? { column: this._hover.column, unit } : null;
    }
    const { token, unit, direction: at, side } = this._state;
    if (token === null || unit === null || at !== direction) return null;
    const from = this._maps.find(({ panel }) => panel.side === side)?.panel;
    const column = from?.group === group ? from.tokens.indexOf(token) : -1;
    return column < 0 ? null : { column, unit };
  }

  _inspect() {
    const map = this._hover?.map ?? this._maps.find((each) => this._cursorOn(each)) ?? this._maps[0];
    if (!map?.panel.reading) return;
    const cursor = this._cursorOn(map);
    const { reading, layer, direction, tokens } = map.panel;
    const token = cursor ? tokens[cursor.column] : -1;
    this.inspector.show(reading, token < 0 ? null : { layer, direction, token, unit: cursor.unit }, this._hover?.map.panel.gate ?? this._state.gate);
    if (this._hover) this.inspector.mark(map.panel.gate);
  }

  _key_(map, name) {
    if (!map.panel.reading) return false;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], PageUp: [0, -10], PageDown: [0, 10] }[name];
    if (name === "+" || name === "=") this.view.zoom(0.7);
    else if (name === "-") this.view.zoom(1 / 0.7);
    else if (name === "0") this.view.fit(this.view.columns);
    else if ((name === "s" || name === "o") && map.panel.side !== "difference") {
      const at = this._cursorOn(map);
      if (!at) return false;
      const cell = { column: at.column, row: map.order.indexOf(at.unit) };
      this._take(map, cell, cell, name === "s" ? "shut" : "open");
    }
    else if (step || name === "Home" || name === "End" || name === "Enter") this._move(map, name, step);
    else return false;
    return true;
  }

  _move(map, name, step) {
    const { order, panel } = map;
    const now = this._cursorOn(map) ?? { column: Math.ceil(this.view.x[0]), unit: order[Math.floor(this.view.y[0] * order.length)] };
    const moved = this._cursorOn(map) && step ? step : [0, 0];
    const last = panel.columns.length - 1;
    let column = name === "Home" ? 0 : name === "End" ? last : Math.min(last, Math.max(0, now.column + moved[0]));
    while (panel.tokens[column] < 0 && column > 0 && column < last) column += moved[0] || 1;
    const row = Math.min(order.length - 1, Math.max(0, order.indexOf(now.unit) + moved[1]));
    this._hover = null;
    this.view.reveal(column, row / order.length, (row + 1) / order.length);
    this._pick(map, { column, row });
    const { reading, layer, direction, gate, tokens } = panel;
    const cell = { layer, direction, token: tokens[column], unit: order[row] };
    if (cell.token < 0) return;
    const value = reading.value(layer, direction, gate, cell.token, cell.unit);
    this._announce(`${gate} ${value.toFixed(3)}: ${describe(reading, cell)}`);
  }

  /** After the state changed without new numbers. */
  follow(state) {
    this._state = state;
    this._refresh();
  }

  _refresh() {
    this._schedule();
    this._inspect();
  }

  _schedule() {
    this._frame ||= requestAnimationFrame(() => {
      this._frame = 0;
      this.draw();
    });
  }

  /** Draw every map that is in sight; with new numbers, all. */
  draw() {
    const width = this._maps[0]?.element.clientWidth;
    if (!width) return;
    for (const map of this._maps) {
      map.resize(width);
      if (!map.panel.reading) map.clear();
      else if (this._fresh || map.canvas.inSight !== false) map.draw(this.view, this._cursorOn(map), this._marked?.map === map ? this._marked : null);
    }
    this._fresh = false;
    this.overview.draw();
  }
}
