// One heat map: tokens across, units down. The cells are painted once, a pixel each, into an image of their own; a frame
// only scales that image, and writes the labels.

import { paint } from "./colours.js";
import { h, number } from "./dom.js";

const LEFT = 34;
const RIGHT = 4;
const TOP = 3;
const LABEL_ROOM = 62;
const CELLS = 216;
const FONT = "11px system-ui, sans-serif";
const SLANT = -Math.PI / 3.4;
/** Pixels that scripts set are kept where scripts can reach them, not on the graphics card. */
const DRAWN_BY_HAND = { willReadFrequently: true };

export class HeatMap {
  /** `theme()` gives the colours of text and lines. */
  constructor({ id, title, note, theme }) {
    this._theme = theme;
    this.canvas = h("canvas", { tabindex: "0", role: "application", "aria-roledescription": "heat map", "aria-label": title, id });
    this.canvas.addEventListener("focus", () => this.canvas.scrollIntoView?.({ block: "nearest" }));
    this._title = h("span", { class: "panel-title" }, title);
    this._note = h("span", { class: "panel-note" }, note);
    this._legend = h("span", { class: "legend" });
    this.element = h("figure", { class: "panel" },
      h("figcaption", {}, h("span", {}, this._title, " ", this._note), this._legend), this.canvas);
    this._cells = document.createElement("canvas");
    this._size = "";
  }

  /**
   * What to show. `data` is [tokens, units]; `order` the units from top to bottom; `columns` the token of each column,
   * or -1 for none; `labels` the columns' names; `colours` a scale.
   */
  show({ data, units, order, columns, labels, colours, description }) {
    Object.assign(this, { data, units, order, columns, labels, colours });
    this.canvas.setAttribute("aria-label", description);
    this.drawLegend(colours);
    this._cells.width = columns.length;
    this._cells.height = order.length;
    const context = this._cells.getContext("2d", DRAWN_BY_HAND);
    const image = context.createImageData(columns.length, order.length);
    const pixels = new Uint32Array(image.data.buffer);
    paint(pixels, this, colours);
    context.putImageData(image, 0, 0);
  }

  /** The cells as an image, a pixel each. */
  get image() {
    return this._cells;
  }

  /** What the colours mean, where that has changed. */
  drawLegend({ low, high, around, beyond, table }) {
    const shown = this._scale;
    if (shown?.low === low && shown.high === high && shown.beyond === beyond && shown.table === table) return;
    this._scale = { low, high, beyond, table };
    const ramp = h("canvas", { width: table.length, height: 1, "aria-hidden": "true" });
    const context = ramp.getContext("2d", DRAWN_BY_HAND);
    const image = context.createImageData(table.length, 1);
    new Uint32Array(image.data.buffer).set(table);
    context.putImageData(image, 0, 0);
    const digits = high >= 10 || Number.isInteger(high) ? 0 : 2;
    const [under, over] = beyond ? ["≤ ", "≥ "] : ["", ""];
    this._legend.replaceChildren(under + number(low, around ? digits : 0), ramp, over + number(high, digits));
  }

  /** Where the cells lie, in CSS pixels. */
  get box() {
    return { left: LEFT, top: TOP, width: Math.max(1, this._width - LEFT - RIGHT), height: CELLS };
  }

  resize(width) {
    const ratio = devicePixelRatio || 1;
    const height = TOP + CELLS + LABEL_ROOM;
    const size = `${width}x${height}@${ratio}`;
    if (size === this._size) return;
    this._size = size;
    this._width = width;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
  }

  /** The row and column under a place in CSS pixels from the canvas's corner, or null. */
  cellAt(x, y, view) {
    if (!this.order) return null;
    const { left, top, width, height } = this.box;
    const acrossShare = (x - left) / width;
    const downShare = (y - top) / height;
    if (acrossShare < 0 || acrossShare >= 1 || downShare < 0 || downShare >= 1) return null;
    const column = Math.floor(view.x[0] + acrossShare * (view.x[1] - view.x[0]));
    const row = Math.floor((view.y[0] + downShare * (view.y[1] - view.y[0])) * this.order.length);
    return this.columns[column] === undefined || this.order[row] === undefined ? null : { column, row };
  }

  /** Draw the frame alone: nothing has been read yet. */
  clear() {
    const context = this.canvas.getContext("2d");
    const ratio = devicePixelRatio || 1;
    const { left, top, width, height } = this.box;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this._width, TOP + CELLS + LABEL_ROOM);
    context.strokeStyle = this._theme().line;
    context.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
    return context;
  }

  /** Draw one frame. `cursor` is {column, unit} or null; `marked` has the two corners of cells that are marked. */
  draw(view, cursor, marked = null) {
    const context = this.clear();
    const ratio = devicePixelRatio || 1;
    const { left, top, width, height } = this.box;
    const rows = this.order.length;
    const across = width / (view.x[1] - view.x[0]);
    const down = height / ((view.y[1] - view.y[0]) * rows);
    context.imageSmoothingEnabled = across * ratio < 1 || down * ratio < 1;
    context.drawImage(
      this._cells,
      view.x[0], view.y[0] * rows, view.x[1] - view.x[0], (view.y[1] - view.y[0]) * rows,
      left, top, width, height,
    );
    this._drawAxes(context, view, across, down);
    if (marked) this._drawMarked(context, view, marked, across, down);
    if (cursor) this._drawCursor(context, view, cursor, across, down);
  }

  _drawAxes(context, view, across, down) {
    const { left, top, width, height } = this.box;
    context.font = FONT;
    context.fillStyle = this._theme().muted;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const first = view.y[0] * this.order.length;
    const last = view.y[1] * this.order.length;
    const step = Math.max(1, Math.ceil((last - first) / 8));
    for (let row = Math.ceil(first); row < last; row += step) {
      const y = top + (row + 0.5 - first) * down;
      if (y > top + 4 && y < top + height - 3) context.fillText(String(this.order[row]), left - 5, y);
    }
    const every = Math.max(1, Math.ceil(15 / across));
    for (let column = Math.floor(view.x[0]); column < view.x[1]; column += 1) {
      if (column % every) continue;
      const x = left + (column + 0.5 - view.x[0]) * across;
      if (x < left + 6 || x > left + width) continue;
      context.save();
      context.translate(x + 3, top + height + 7);
      context.rotate(SLANT);
      context.fillText(clip(this.labels[column]), 0, 0, LABEL_ROOM + 6);
      context.restore();
    }
  }

  _drawMarked(context, view, { from, to }, across, down) {
    const { left, top } = this.box;
    const [column, row] = [Math.min(from.column, to.column), Math.min(from.row, to.row)];
    const [columns, rows] = [Math.abs(from.column - to.column) + 1, Math.abs(from.row - to.row) + 1];
    context.strokeStyle = this._theme().ink;
    context.setLineDash([4, 3]);
    context.strokeRect(left + (column - view.x[0]) * across, top + (row - view.y[0] * this.order.length) * down, columns * across, rows * down);
    context.setLineDash([]);
  }

  _drawCursor(context, view, { column, unit }, across, down) {
    const { left, top, width, height } = this.box;
    const row = this.order.indexOf(unit);
    const { ink, surface } = this._theme();
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    const x = left + (column - view.x[0]) * across;
    const y = top + (row - view.y[0] * this.order.length) * down;
    const wide = Math.max(across, 3);
    const high = Math.max(down, 3);
    for (const [colour, thickness] of [[surface, 4], [ink, 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      context.strokeRect(x - 1, y - 1, wide + 2, high + 2);
    }
    context.restore();
  }
}

const clip = (label) => (label.length > 10 ? `${label.slice(0, 9)}…` : label);
