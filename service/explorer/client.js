// The service, as the page asks it. Every failure becomes a ServiceError whose message is for people.

import { readSafetensors } from "./safetensors.js";
import { Reading } from "./reading.js";

const SAFETENSORS = "application/vnd.safetensors";
const KEY = "gatelight-api-key";

/** Statuses of what passes by itself: no network, overload, a restart, a proxy without the service behind it. */
const PASSING = new Set([0, 408, 429, 502, 503, 504]);

export class ServiceError extends Error {
  /** `wait`: the seconds that the service asks to wait for, or null. `status` 0: no answer came. */
  constructor(message, status, wait = null) {
    super(message);
    this.status = status;
    this.wait = wait;
    this.passes = PASSING.has(status);
  }
}

export const setKey = (key) => sessionStorage.setItem(KEY, key);

/** The API key that was given, or null. */
export const key = () => sessionStorage.getItem(KEY);

/** The header that carries the key, where one was given. */
export function authorization() {
  const known = key();
  return known ? { Authorization: `Bearer ${known}` } : {};
}

async function send(path, { method = "GET", body, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept, ...authorization() };
  if (body) headers["Content-Type"] = "application/json";
  let response;
  let bytes;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
    bytes = await response.arrayBuffer();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(navigator.onLine ? "The service does not answer. Is it running, and is the network up?"
      : "The service does not answer: this device is offline.", 0);
  }
  if (!response.ok) throw failure(response, bytes);
  return bytes;
}

const parsed = (bytes) => JSON.parse(new TextDecoder().decode(bytes));

/** What `parse` makes of the bytes. What it cannot read is not the service's own answer: a proxy's page, or a part. */
function understood(bytes, parse) {
  try {
    return parse(bytes);
  } catch {
    throw new ServiceError("The answer is not complete, or not the service's own.", 0);
  }
}

function failure(response, bytes) {
  let detail = `The service answered with status ${response.status}.`;
  try {
    const problem = parsed(bytes);
    detail = problem.detail ?? problem.error ?? detail;
  } catch {
    // not the service's own answer: a proxy's, say
  }
  return new ServiceError(detail, response.status, seconds(response.headers.get("Retry-After")));
}

/** The seconds of `Retry-After`, which is a number or a date; null without one. */
function seconds(after) {
  if (!after) return null;
  const wait = /^\d+$/.test(after) ? Number(after) : (Date.parse(after) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.max(0, wait) : null;
}

const ask = async (path, options) => understood(await send(path, options), parsed);

/** `GET /openapi.json`. */
export const apiDocument = () => ask("openapi.json");

/** `GET /models`. */
export const listModels = () => ask("models");

/** The request that reads a text with a model. `more` narrows or widens it. */
export function request(model, text, more = {}) {
  return { model: model.name, inputs: text, truncate: true, ...(model.task === "ner" && { tokens: true }), ...more };
}

/**
 * Read a text: every number of every gate, or, where that is over the service's limit, of one layer, then of one
 * direction.
 */
export async function read(model, text, { layer, direction, signal, changes = {} }) {
  const narrower = [{}, { layers: [layer] }, { layers: [layer], directions: [direction] }];
  for (const [step, selection] of narrower.entries()) {
    try {
      const asked = { method: "POST", body: request(model, text, { ...selection, ...changes }), accept: SAFETENSORS, signal };
      const bytes = await send("gates", asked);
      return understood(bytes, () => {
        const { metadata, tensors } = readSafetensors(bytes);
        return new Reading(model, text, JSON.parse(metadata.response), tensors, step > 0, changes);
      });
    } catch (error) {
      if (error.status !== 413 || step === narrower.length - 1) throw error;
    }
  }
}

/** Ask for more about a reading. Fails with status 404 where the version that read it is served no more. */
async function more({ model, text, version, changes }, selection, signal) {
  const answer = await ask("gates", { method: "POST", body: request(model, text, { ...selection, ...changes }), signal });
  if (answer.version !== version) throw new ServiceError(`Version ${version} of ${model.name} is no longer served.`, 404);
  return answer.traces[0];
}

/** How a tagger's logits at one `token` split over the tokens. */
export async function explain(reading, token, signal) {
  const trace = await more(reading, { explain: reading.kept[token], reduce: "summary", gates: ["hidden"] }, signal);
  return { ...(trace.contributions ?? { note: trace.contributions_note }), token };
}

/** What each unit does over the text, and what all units do at each token, layer by layer. */
export const statistics = async (reading, signal) =>
  (await more(reading, { reduce: "summary", statistics: true, contributions: false, decimals: 6 }, signal)).layers;

/** Whether the split is true: what deleting the tokens with the largest shares does to the answer. */
export async function faithfulness(reading, token, signal) {
  const picked = reading.prediction.tokens ? { explain: reading.kept[token] } : {};
  const trace = await more(reading, { faithfulness: true, contributions: false, reduce: "summary", gates: ["hidden"], ...picked }, signal);
  return trace.faithfulness;
}

/** A piece of a text, and the state of the pieces before: its events and the next state. */
export const postStream = (body, signal) => ask("stream", { method: "POST", body, signal });

/** The card of a unit of the model that made a reading. */
export const card = ({ model, version }, { layer, direction, unit }, signal) =>
  ask(`models/${encodeURIComponent(model.name)}/versions/${version}/units/${layer}/${direction}/${unit}`, { signal });

const TRIES = 5;

/** What some units do in other inputs: for each {tokens, values}, values being [tokens][units]; null for an input that
 * the service cannot read. Where it takes not so many numbers at once, it gets fewer; where it is busy, the page waits. */
export async function activations(reading, inputs, what, signal) {
  const { layer, direction, gate, units } = what;
  const body = {
    model: reading.model.name, version: reading.version, inputs, truncate: true, contributions: false, decimals: 5,
    gates: [gate], layers: [layer], directions: [direction], units,
  };
  for (let tried = 1; ; tried++) {
    try {
      const { traces } = await ask("gates", { method: "POST", body, signal });
      return traces.map(({ tokens, layers: [found] }) => ({ tokens, values: found.gates[gate] }));
    } catch (error) {
      if (error.status === 413 || error.status === 422) {
        if (inputs.length === 1) return [null];
        const half = Math.ceil(inputs.length / 2);
        return [...await activations(reading, inputs.slice(0, half), what, signal), ...await activations(reading, inputs.slice(half), what, signal)];
      }
      if (!error.passes || tried === TRIES) throw error;
      await pause(1000 * Math.min(error.wait ?? 1, 30), signal);
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((done, fail) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); fail(new DOMException("stopped", "AbortError")); }, { once: true });
  });
}

/** The bytes of a whole trace, to keep. */
export async function download(body, binary) {
  return new Blob([await send("gates", { method: "POST", body, accept: binary ? SAFETENSORS : "application/json" })]);
}
