// One model's reading of one text: tokens, prediction, contributions, and every gate's numbers.

/** Positions in UTF-16, as JavaScript counts, of a text's code points, as the service counts. */
function unitsOf(text) {
  const starts = [];
  let at = 0;
  for (const character of text) {
    starts.push(at);
    at += character.length;
  }
  starts.push(at);
  return starts;
}

export class Reading {
  /** `changes` are the fields of the request that change the run. */
  constructor(model, text, answer, tensors, narrowed, changes = {}) {
    const trace = answer.traces[0];
    const [{ shape: [, hidden] }] = tensors.values();
    /** The model as it answered: its version may be newer than the list of models, or a canary. */
    this.model = { ...model, cell: answer.cell, version: answer.version, equations: answer.equations, hidden };
    this.text = text;
    this.version = answer.version;
    this.equations = answer.equations;
    this.tokens = trace.tokens;
    /** [first token, end] of each sequence that was read from a zero state. */
    this.sentences = trace.sentences ?? [[0, trace.tokens.length]];
    this.prediction = trace.prediction;
    this.layers = trace.layers;
    this.contributions = trace.contributions;
    this.note = trace.contributions_note;
    /** The number of each token in the text as sent, and the prediction without changes, where there are any. */
    this.kept = trace.kept ?? trace.tokens.map((_, at) => at);
    this.baseline = trace.baseline ?? null;
    this.changes = changes;
    this.narrowed = narrowed;
    this.statistics = null;
    this._tensors = tensors;
    const starts = unitsOf(text);
    this.spans = this.tokens.map(({ start, end }) => [starts[start], starts[end]]);
    this.slice = (start, end) => text.slice(starts[start], starts[end]);
  }

  get gates() {
    return Object.keys(this.equations);
  }

  has(layer, direction) {
    return this.layers.some((each) => each.layer === layer && each.direction === direction);
  }

  /** What the service says of each unit over the text, once it has: {gates, horizon}. */
  unitStatistics(layer, direction) {
    return this._found(layer, direction)?.statistics;
  }

  /** By gate, the mean and the other summaries of each token over all units. */
  summaries(layer, direction) {
    return this._found(layer, direction)?.gates;
  }

  _found(layer, direction) {
    return this.statistics?.find((each) => each.layer === layer && each.direction === direction);
  }

  /** A gate's numbers: {shape: [tokens, units], data}, row after row. */
  array(layer, direction, gate) {
    return this._tensors.get(`0/${layer}/${direction}/${gate}`);
  }

  /** One number; 0 where a direction has read nothing of a sentence yet. `back` steps back in the order of reading. */
  value(layer, direction, gate, token, unit, back = 0) {
    const { shape: [, units], data } = this.array(layer, direction, gate);
    if (!back) return data[token * units + unit];
    const row = direction === "backward" ? token + back : token - back;
    const [first, end] = this.sentences.find(([, end]) => token < end);
    return row < first || row >= end ? 0 : data[row * units + unit];
  }

  /** A unit's numbers over the text, in the order of the text. */
  series(layer, direction, gate, unit) {
    return this.tokens.map((_, token) => this.value(layer, direction, gate, token, unit));
  }

  /** The entity that a token lies in, if any. */
  entityAt(token) {
    return this.prediction.entities?.find((each) => each.token_start <= token && token < each.token_end);
  }
}
