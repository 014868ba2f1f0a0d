// Mouse, touch and keys on a heat map, turned into what is meant: look at a cell, pick its unit, move, zoom.

const WHEEL = 0.0016;
const CLICK = 4;

/**
 * Listen on a map. `acts` has hover(cell|null), pick(cell), key(name); while `marks()` is true, dragging marks cells:
 * mark(from, to) while it goes on, take(from, to) at its end. `view` is the viewport.
 */
export function listen(map, view, acts) {
  const { canvas } = map;
  const pointers = new Map();
  let start = null;
  let spread = 0;
  let from = null; // the cell where marking began

  const place = (event) => {
    const rectangle = canvas.getBoundingClientRect();
    return [event.clientX - rectangle.left, event.clientY - rectangle.top];
  };
  const share = ([x, y]) => {
    const { left, top, width, height } = map.box;
    return [Math.min(1, Math.max(0, (x - left) / width)), Math.min(1, Math.max(0, (y - top) / height))];
  };

  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, place(event));
    start = place(event);
    from = acts.marks() && pointers.size === 1 ? map.cellAt(...start, view) : null;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    if (!pointers.has(event.pointerId)) return acts.hover(map.cellAt(...now, view));
    const before = pointers.get(event.pointerId);
    pointers.set(event.pointerId, now);
    if (from) return acts.mark(from, map.cellAt(...inside(now), view));
    if (pointers.size === 2) {
      const [[x1, y1], [x2, y2]] = pointers.values();
      const distance = Math.hypot(x1 - x2, y1 - y2);
      if (spread) view.zoom(spread / distance, ...share([(x1 + x2) / 2, (y1 + y2) / 2]));
      spread = distance;
    } else {
      const { width, height } = map.box;
      view.pan((before[0] - now[0]) / width, (before[1] - now[1]) / height);
    }
  });
  const inside = ([x, y]) => {
    const { left, top, width, height } = map.box;
    return [Math.min(left + width - 1e-3, Math.max(left, x)), Math.min(top + height - 1e-3, Math.max(top, y))];
  };
  const end = (event) => {
    pointers.delete(event.pointerId);
    spread = 0;
    from = null;
  };
  canvas.addEventListener("pointerup", (event) => {
    const now = place(event);
    if (from) {
      acts.take(from, map.cellAt(...inside(now), view));
      return end(event);
    }
    const still = start && Math.hypot(now[0] - start[0], now[1] - start[1]) < CLICK;
    if (still && pointers.size === 1) {
      const cell = map.cellAt(...now, view);
      if (cell) acts.pick(cell);
    }
    end(event);
  });
  canvas.addEventListener("pointercancel", (event) => {
    if (from) acts.mark(null);
    end(event);
  });
  canvas.addEventListener("pointerleave", () => acts.hover(null));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls; a pinch on a touchpad comes with ctrl
    event.preventDefault();
    view.zoom(Math.exp(event.deltaY * WHEEL), ...share(place(event)));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => view.zoom(0.5, ...share(place(event))));
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (acts.key(event.key)) event.preventDefault();
  });
}
