// Which panels are shown: of one reading a gate a row and a direction a column; of two, each and their difference.

import { largest, reach, scale } from "./colours.js";
import { isLogistic } from "./equations.js";

export const ARROW = { forward: "→", backward: "←" };
const MOVE = "Arrow keys move from cell to cell, Enter picks the unit, plus and minus zoom.";

const everything = (count) => Array.from({ length: count }, (_, at) => at);

/** The colours that fit a gate: 0..1, or around 0: to 1, where tanh ends, or as far as most of its numbers go. */
export function coloursOf(equation, ...arrays) {
  return isLogistic(equation) ? scale(0, 1) : around(arrays, 1);
}

function around(arrays, least) {
  const most = Math.max(0, ...arrays.map(({ data }) => largest(data)));
  if (most <= least) return scale(-least, least);
  const far = Math.max(...arrays.map(({ data }) => reach(data)), least);
  return scale(-far, far, far < most);
}

const words = (gate, direction, layer, units, tokens) =>
  `${gate}, ${direction}, layer ${layer}: ${units} units by ${tokens} tokens. ${MOVE}`;

/** The panels of a model before it has read anything: what they are called, and their usual colours. */
export function frameOf(model, directions, equations = model.equations) {
  return Object.entries(equations).flatMap(([gate, equation]) => directions.map((direction) => ({
    id: `map-${gate}-${direction}`,
    gate, direction,
    title: gate,
    note: model.directions.length > 1 ? `${ARROW[direction]} ${direction}` : "",
    colours: coloursOf(equation),
  })));
}

/** The panels of one reading. `orders` are the units by direction. */
export function planOf(reading, layer, directions, orders) {
  const { model, equations, tokens } = reading;
  const columns = everything(tokens.length);
  const colours = {};
  return frameOf(model, directions, equations).map((frame) => {
    const { gate, direction } = frame;
    colours[gate] ??= coloursOf(equations[gate], ...directions.map((each) => reading.array(layer, each, gate)));
    return {
      ...frame,
      layer, reading, columns, tokens: columns,
      colours: colours[gate],
      side: "a",
      group: "a",
      array: reading.array(layer, direction, gate),
      order: orders[direction],
      description: words(gate, direction, layer, orders[direction].length, tokens.length),
    };
  });
}

/** The panels of two readings over aligned columns, in one direction; of one model also their difference. */
export function planOfTwo(first, second, pairs, layer, direction, orders) {
  const same = first.model.name === second.model.name;
  const gates = [...new Set([...first.gates, ...second.gates])];
  return gates.flatMap((gate) => {
    const sides = [["a", first, 0], ["b", second, 1]].filter(([, reading]) => reading.gates.includes(gate));
    const arrays = sides.map(([, reading]) => reading.array(layer, direction, gate));
    const colours = coloursOf(sides[0][1].equations[gate], ...arrays);
    const panels = sides.map(([side, reading, at], number) => {
      const tokens = pairs.map((pair) => pair[at]);
      return {
        id: `map-${gate}-${side}`,
        gate, direction, layer, reading, side, colours, tokens,
        columns: tokens,
        group: same ? "both" : side,
        array: arrays[number],
        order: orders[side],
        title: gate,
        note: `${side.toUpperCase()} · ${reading.model.name}`,
        description: `${side.toUpperCase()}: ${words(gate, direction, layer, orders[side].length, pairs.length)}`,
      };
    });
    return same ? [...panels, difference(panels, pairs, orders.a)] : panels;
  });
}

/** B less A, cell by cell, where both have a token. */
function difference([a, b], pairs, order) {
  const units = a.array.shape[1];
  const data = new Float32Array(pairs.length * units);
  pairs.forEach(([one, other], column) => {
    if (one < 0 || other < 0) return;
    for (let unit = 0; unit < units; unit++) {
      data[column * units + unit] = b.array.data[other * units + unit] - a.array.data[one * units + unit];
    }
  });
  const array = { shape: [pairs.length, units], data };
  return {
    ...a,
    id: `map-${a.gate}-difference`,
    side: "difference",
    array,
    order,
    columns: pairs.map(([one, other], column) => (one < 0 || other < 0 ? -1 : column)),
    colours: around([array], 0.25),
    note: "B − A",
    description: `B less A: ${words(a.gate, a.direction, a.layer, order.length, pairs.length)}`,
  };
}
