// Trying again after what passes: not before the service asks to, with growing waits, and at once when the network is back.

import { h } from "./dom.js";

const LONGEST = 30;

/** `act()` tries again. The element says when that is, and has a button for now. */
export function createRetry(act) {
  const text = h("span");
  const element = h("p", { class: "notice row", id: "retry", hidden: true }, text, h("button", { type: "button", on: { click: now } }, "Try now"));
  let tries = 0;
  let due = null; // when to try, in milliseconds of performance.now()
  let asked = false; // whether the service said when
  let timer = 0;

  /** A try failed. `wait`: the seconds that the service asks for, or null. */
  function later(wait) {
    // A third more at most: pages that lost the service together do not come back together.
    const own = Math.min(LONGEST, 2 ** tries) * (1 + Math.random() / 3);
    const next = performance.now() + 1000 * Math.max(own, wait ?? 0);
    if (due === null) tries += 1;
    due = Math.max(due ?? 0, due === null || wait ? next : 0);
    asked = wait !== null;
    element.hidden = false;
    tick();
  }

  function tick() {
    clearTimeout(timer);
    if (due === null) return;
    const left = due - performance.now();
    if (left <= 0) {
      now();
      return;
    }
    text.textContent = `Trying again in ${Math.ceil(left / 1000)} s.`;
    timer = setTimeout(tick, Math.min(left, 1000));
  }

  function now() {
    clearTimeout(timer);
    due = null;
    text.textContent = "Trying again…";
    act();
  }

  /** There is nothing to try again: an answer came, or another error. */
  function stop() {
    clearTimeout(timer);
    due = null;
    tries = 0;
    element.hidden = true;
  }

  addEventListener("online", () => due !== null && !asked && now());
  document.addEventListener("visibilitychange", tick); // timers of a hidden page come late
  return { element, later, stop };
}
