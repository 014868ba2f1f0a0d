// Elements from plain values. Text goes in as text nodes, never as markup: what a user types stays what it is.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    // Through the object model: the page's policy lets no style attribute in.
    else if (name === "vars") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element: attributes, `on` for listeners, `vars` for CSS properties; children are nodes or strings. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** An SVG element. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** A number as the page prints it: `digits` decimals, a real minus sign. */
export function number(value, digits = 3) {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
}

/** A number with its sign always shown. */
export const signed = (value, digits = 2) => (Number(value.toFixed(digits)) > 0 ? "+" : "") + number(value, digits);

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** Call `act` once `wait` milliseconds have passed without another call. */
export function debounce(act, wait) {
  let timer = 0;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(act, wait, ...given);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** A table for those who read rather than look, filled when it is opened. `make` returns {head, rows}. */
export function tableBehind(summary, make) {
  const details = h("details", { class: "behind" }, h("summary", {}, summary));
  details.addEventListener("toggle", () => {
    details.querySelector(".scroll")?.remove();
    if (!details.open) return;
    const { head, rows } = make();
    const table = h(
      "table",
      {},
      h("caption", { class: "unseen" }, summary),
      h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
      h("tbody", {}, rows.map(([first, ...rest]) =>
        h("tr", {}, h("th", { scope: "row" }, String(first)), rest.map((cell) => h("td", {}, String(cell)))))),
    );
    details.append(h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": summary }, table));
  });
  return details;
}

/** Radio buttons that look like one control. `options` are [value, label]. */
export function segmented(name, legend, options, chosen, onChange) {
  return h(
    "fieldset",
    { class: "segmented" },
    h("legend", {}, legend),
    h("div", { class: "segments" }, options.map(([value, label]) =>
      h("label", {},
        h("input", { type: "radio", name, value, checked: value === chosen, on: { change: () => onChange(value) } }),
        h("span", {}, label)))),
  );
}

/** Put new children into an element; what had the focus has it again, by its id, its name and value, or its token. */
export function replace(element, ...children) {
  const had = element.contains(document.activeElement) ? document.activeElement : null;
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (!had) return;
  const alike = (node) => (had.id ? node.id === had.id
    : had.name ? node.name === had.name && node.value === had.value
      : node.dataset.token !== undefined ? node.dataset.token === had.dataset.token
        : node.textContent === had.textContent);
  [...element.querySelectorAll("button, input, select, summary")].find(alike)?.focus({ preventScroll: true });
}
