// The controls over the heat maps.

import { h, segmented } from "./dom.js";
import { ARROW } from "./plan.js";

/**
 * Controls over the panels: layer, directions, order and choice of units, zoom. `names` are the cell's gates; `both`
 * offers all directions at once.
 */
export function controls({ layers, directions }, names, state, gates, store, { both, problem }) {
  const found = [];
  if (layers > 1) {
    const choices = Array.from({ length: layers }, (_, layer) => [layer, String(layer)]);
    found.push(segmented("layer", "Layer", choices, state.layer, (layer) => store.set({ layer })));
  }
  if (directions.length > 1) {
    const choices = [...(both ? [["both", "both"]] : []), ...directions.map((each) => [each, `${each} ${ARROW[each]}`])];
    found.push(segmented("shown", "Direction", choices, state.shown, (shown) => store.set({ shown })));
  }
  const options = (choices, chosen) => choices.map(([value, label]) => h("option", { value, selected: value === chosen }, label));
  const sort = h("select", { id: "sort", on: { change: () => store.set({ sort: sort.value }) } },
    options([["none", "as they are"], ["mean", "by their mean"], ["change", "by how much they change"]], state.sort));
  const by = h("select", { id: "by", "aria-label": "by which gate", on: { change: () => store.set({ by: by.value }) } },
    options(names.map((gate) => [gate, gate]), state.by));
  const units = h("input", {
    id: "units", type: "text", value: state.units, placeholder: "all, or 0-15, 42", autocomplete: "off", size: "14",
    "aria-invalid": String(Boolean(problem)), "aria-describedby": problem ? "units-problem" : null,
    on: { change: () => store.set({ units: units.value.trim() }) },
  });
  found.push(
    h("div", { class: "field" }, h("label", { for: "sort" }, "Order"), sort, state.sort !== "none" && [h("span", { "aria-hidden": "true" }, "of"), by]),
    h("div", { class: "field" }, h("label", { for: "units" }, "Units"), units, problem && h("span", { id: "units-problem", class: "wrong", role: "alert" }, problem)),
  );
  const zoom = (label, name, act) => h("button", { type: "button", class: "icon", "aria-label": name, title: name, on: { click: act } }, label);
  found.push(h("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
    zoom("−", "zoom out", () => gates.view.zoom(1 / 0.6)), zoom("+", "zoom in", () => gates.view.zoom(0.6)),
    zoom("Fit", "fit the whole text", () => gates.view.fit(gates.view.columns))));
  return found;
}
