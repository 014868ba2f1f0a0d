// Which part of the text and of the units is in sight: shared by all panels, so that they move together.

const LEAST_COLUMNS = 4;
const LEAST_HEIGHT = 1 / 64;

export class Viewport {
  /** `onChange` is called after every change. */
  constructor(onChange) {
    this._onChange = onChange;
    this.fit(1);
  }

  /** Show the first `first` of `columns` columns, and every row. */
  fit(columns, first = columns) {
    this.columns = columns;
    this.x = [0, Math.min(columns, first)];
    this.y = [0, 1];
    this._onChange?.();
  }

  get whole() {
    return this.x[0] === 0 && this.x[1] === this.columns && this.y[0] === 0 && this.y[1] === 1;
  }

  /** Zoom by a factor around a place, each 0..1 of what is in sight. */
  zoom(factor, atX = 0.5, atY = 0.5, vertical = true) {
    this.x = scaled(this.x, factor, atX, this.columns, Math.min(LEAST_COLUMNS, this.columns));
    if (vertical) this.y = scaled(this.y, factor, atY, 1, LEAST_HEIGHT);
    this._onChange();
  }

  /** Move by shares of what is in sight. */
  pan(byX, byY) {
    this.x = moved(this.x, byX * (this.x[1] - this.x[0]), this.columns);
    this.y = moved(this.y, byY * (this.y[1] - this.y[0]), 1);
    this._onChange();
  }

  /** Put the window's left edge at a column. */
  moveTo(column) {
    this.x = moved(this.x, column - this.x[0], this.columns);
    this._onChange();
  }

  /** Move as little as brings a cell into sight: a column, and a row as a share from `top` to `bottom`. */
  reveal(column, top, bottom) {
    const x = moved(this.x, nearest(this.x, column, column + 1), this.columns);
    const y = moved(this.y, nearest(this.y, top, bottom), 1);
    if (x[0] === this.x[0] && y[0] === this.y[0]) return;
    this.x = x;
    this.y = y;
    this._onChange();
  }
}

function scaled([from, to], factor, at, limit, least) {
  const size = Math.min(limit, Math.max(least, (to - from) * factor));
  const start = from + at * (to - from) - at * size;
  return moved([start, start + size], 0, limit);
}

function moved([from, to], by, limit) {
  const start = Math.min(limit - (to - from), Math.max(0, from + by));
  return [start, start + to - from];
}

const nearest = ([from, to], first, last) => (first < from ? first - from : last > to ? last - to : 0);
