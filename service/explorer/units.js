// Which units are shown, and in which order.

/** Parse "0-15, 42" into unit numbers; null for all. Throws an Error, in words, for what is no such list. */
export function parseUnits(text, hidden) {
  if (!text.trim()) return null;
  const found = new Set();
  for (const part of text.split(",")) {
    const match = /^\s*(\d{1,5})(?:\s*[-–]\s*(\d{1,5}))?\s*$/.exec(part);
    if (!match) throw new Error(`“${part.trim()}” is no unit and no range: write 0-15, 42.`);
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (from > to || to >= hidden) throw new Error(`The model has units 0 to ${hidden - 1}; “${part.trim()}” is not among them.`);
    for (let unit = from; unit <= to; unit++) found.add(unit);
  }
  return [...found].sort((one, other) => one - other);
}

/** The units from top to bottom: those that are `wanted` (null for all), by the mean or the change of a gate. */
export function orderOf(reading, layer, direction, { sort, by }, wanted) {
  const units = wanted ?? Array.from({ length: reading.model.hidden }, (_, unit) => unit);
  const statistics = reading.unitStatistics(layer, direction)?.gates[reading.gates.includes(by) ? by : reading.gates[0]];
  if (sort === "none" || !statistics) return units;
  const values = statistics[sort];
  return [...units].sort((one, other) => values[other] - values[one] || one - other);
}
