// A strip of the whole text with a window: where in a long text the panels are.

import { h } from "./dom.js";

const HEIGHT = 34;

export class Overview {
  constructor(view, theme) {
    this._view = view;
    this._theme = theme;
    this.canvas = h("canvas", {
      tabindex: "0", role: "slider", "aria-label": "Window of the text", "aria-orientation": "horizontal", "aria-valuemin": "0",
    });
    this.element = h("div", { class: "overview", hidden: true }, this.canvas);
    let held = false;
    const go = (event) => {
      const { left, width } = this.canvas.getBoundingClientRect();
      const middle = ((event.clientX - left) / width) * view.columns;
      view.moveTo(middle - (view.x[1] - view.x[0]) / 2);
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      held = true;
      this.canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    this.canvas.addEventListener("pointermove", (event) => held && go(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => (held = false));
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.25, ArrowRight: 0.25, PageUp: -1, PageDown: 1, ArrowDown: -0.25, ArrowUp: 0.25 }[event.key];
      if (step) view.pan(step, 0);
      else if (event.key === "Home" || event.key === "End") view.moveTo(event.key === "Home" ? 0 : view.columns);
      else if (event.key === "+" || event.key === "-") view.zoom(event.key === "+" ? 0.7 : 1 / 0.7, 0.5, 0.5, false);
      else return;
      event.preventDefault();
    });
  }

  show(image, labels) {
    this._image = image;
    this._labels = labels;
  }

  draw() {
    const { x, columns } = this._view;
    const partial = x[1] - x[0] < columns;
    this.element.hidden = !partial || !this._image;
    if (this.element.hidden) return;
    const width = this.element.clientWidth;
    const ratio = devicePixelRatio || 1;
    const size = [Math.round(width * ratio), Math.round(HEIGHT * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    const context = this.canvas.getContext("2d");
    const { ink, surface } = this._theme();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(this._image, 0, 0, width, HEIGHT);
    const [from, to] = x.map((column) => (column / columns) * width);
    context.fillStyle = surface;
    context.globalAlpha = 0.62;
    context.fillRect(0, 0, from, HEIGHT);
    context.fillRect(to, 0, width - to, HEIGHT);
    context.globalAlpha = 1;
    context.strokeStyle = ink;
    context.lineWidth = 2;
    context.strokeRect(from + 1, 1, Math.max(2, to - from - 2), HEIGHT - 2);
    const first = Math.floor(x[0]);
    const last = Math.min(columns, Math.ceil(x[1])) - 1;
    this.canvas.setAttribute("aria-valuemax", String(columns - 1));
    this.canvas.setAttribute("aria-valuenow", String(first));
    this.canvas.setAttribute("aria-valuetext",
      `tokens ${first} “${this._labels[first]}” to ${last} “${this._labels[last]}” of ${columns}`);
  }
}
