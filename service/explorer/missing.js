// Models that a link names, or that were shown, and that the service does not serve.

import { h } from "./dom.js";

const listed = (names) => names.map((name) => `“${name}”`).join(", ");

/** A notice. `show(gone, served, shown, before)` takes names; `before` are those that were served earlier. */
export function createMissing() {
  const element = h("p", { class: "notice", id: "missing", role: "status", hidden: true });

  function show(gone, served, shown, before) {
    if (!gone.length) return;
    const was = gone.some((name) => before.includes(name)) ? "no longer" : "not";
    element.textContent = `This service does ${was} serve ${listed(gone)}. It serves ${listed(served)}. Shown is “${shown}”.`;
    element.hidden = false;
  }

  return { element, show, clear: () => (element.hidden = true) };
}
