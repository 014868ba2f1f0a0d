// Colours for numbers: 0..1 from dark to light (viridis), and around 0 from orange through the page's ground to blue.
// Both can be told apart without seeing red or green.

import viridis from "./vendor/d3-scale-chromatic/sequential-multi/viridis.js";

const STEPS = 256;
const POLES = {
  light: { low: [196, 84, 10], middle: [250, 249, 246], high: [20, 84, 168] },
  dark: { low: [255, 158, 74], middle: [27, 31, 39], high: [104, 176, 255] },
};

export const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

const rgba = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;
const hex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const tableOf = (rgb) => Uint32Array.from({ length: STEPS }, (_, step) => rgba(rgb(step / (STEPS - 1))));

const diverging = ({ low, middle, high }) => (share) => {
  const end = share < 0.5 ? low : high;
  const weight = Math.abs(share - 0.5) * 2;
  return middle.map((channel, at) => Math.round(channel + (end[at] - channel) * weight));
};

// Made once: every answer is drawn with them.
const SEQUENTIAL = tableOf((share) => hex(viridis(share)));
const DIVERGING = { light: tableOf(diverging(POLES.light)), dark: tableOf(diverging(POLES.dark)) };

/**
 * A scale from `low` to `high`: {low, high, around, beyond, table}, where `table` has a colour a step, RGBA as one
 * number. `beyond` says that numbers lie outside of it, which are drawn as its ends.
 */
export function scale(low, high, beyond = false) {
  const around = low < 0;
  return { low, high, around, beyond, table: around ? DIVERGING[isDark() ? "dark" : "light"] : SEQUENTIAL };
}

/**
 * Paint the numbers of `columns` (tokens, -1 for none, which stays as it is) and of the units of `order` into pixels,
 * row after row. `data` is [tokens, units].
 */
export function paint(pixels, { data, units, order, columns }, { low, high, table }) {
  const factor = (STEPS - 1) / (high - low);
  const wide = columns.length;
  for (let row = 0, at = 0; row < order.length; row++) {
    const unit = order[row];
    for (let column = 0; column < wide; column++, at++) {
      if (columns[column] < 0) continue;
      const step = (data[columns[column] * units + unit] - low) * factor;
      pixels[at] = table[step <= 0 ? 0 : step >= STEPS - 1 ? STEPS - 1 : (step + 0.5) | 0];
    }
  }
}

/** How far numbers reach from 0: what 99 in 100 of them stay under. A few cells that run away would pale all others. */
export function reach(data) {
  const every = Math.max(1, Math.floor(data.length / 20_000));
  const sizes = Float32Array.from({ length: Math.ceil(data.length / every) }, (_, at) => Math.abs(data[at * every]));
  return sizes.sort()[Math.floor(0.99 * (sizes.length - 1))];
}

/** The largest absolute number. */
export function largest(data) {
  let most = 0;
  for (let at = 0; at < data.length; at++) {
    if (data[at] > most) most = data[at];
    else if (-data[at] > most) most = -data[at];
  }
  return most;
}
