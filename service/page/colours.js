// Colours for numbers: 0..1 from dark to light (viridis), and around 0 from orange through the page's ground to blue.
// Both can be told apart without seeing red or green.

import viridis from "./vendor/d3-scale-chromatic/sequential-multi/viridis.js";

const STEPS = 256;
const POLES = {
  light: { low: [196, 84, 10], middle: [250, 249, 246], high: [20, 84, 168] },
  dark: { low: [255, 158, 74], middle: [27, 31, 39], high: [104, 176, 255] },
};

export const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

const hex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));

function diverging(share) {
  const { low, middle, high } = POLES[isDark() ? "dark" : "light"];
  const end = share < 0.5 ? low : high;
  const weight = Math.abs(share - 0.5) * 2;
  return middle.map((channel, at) => Math.round(channel + (end[at] - channel) * weight));
}

/**
 * A scale from `low` to `high`: {low, high, table (RGBA as one number a step), css(value)}. `beyond` says that numbers
 * lie outside of it, which are drawn as its ends.
 */
export function scale(low, high, beyond = false) {
  const around = low < 0;
  const rgb = (share) => (around ? diverging(share) : hex(viridis(share)));
  const table = Uint32Array.from({ length: STEPS }, (_, step) => {
    const [red, green, blue] = rgb(step / (STEPS - 1));
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });
  return { low, high, around, beyond, table, css: (value) => `rgb(${rgb(clamp((value - low) / (high - low))).join(" ")})` };
}

const clamp = (share) => Math.min(1, Math.max(0, share));

/** Paint numbers into pixels: `pick(row, column)` is the index of each in `data`, or -1 for none. */
export function paint(pixels, data, columns, rows, indexOf, { low, high, table }, blank) {
  const factor = (STEPS - 1) / (high - low);
  let at = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const index = indexOf(row, column);
      if (index < 0) {
        pixels[at] = blank;
        continue;
      }
      const step = (data[index] - low) * factor;
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
  for (let at = 0; at < data.length; at++) most = Math.max(most, Math.abs(data[at]));
  return most;
}
