// The service, as the page asks it. Every failure becomes a ServiceError whose message is for people.

import { readSafetensors } from "./safetensors.js";
import { Reading } from "./reading.js";

const SAFETENSORS = "application/vnd.safetensors";
const KEY = "gatelight-api-key";

export class ServiceError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const setKey = (key) => sessionStorage.setItem(KEY, key);

async function send(path, { method = "GET", body, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("The service does not answer. Is it running, and is the network up?", 0);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  let detail = `The service answered with status ${response.status}.`;
  try {
    const problem = await response.json();
    detail = problem.detail ?? problem.error ?? detail;
  } catch {
    // not the service's own answer: a proxy's, say
  }
  const wait = response.headers.get("Retry-After");
  return new ServiceError(wait ? `${detail} Try again in ${wait} s.` : detail, response.status);
}

/** `GET /models`. */
export const listModels = async () => (await send("models")).json();

/** `GET /models/NAME`. */
export const describeModel = async (name) => (await send(`models/${encodeURIComponent(name)}`)).json();

/** The request that reads a text with a model. `more` narrows or widens it. */
export function request(model, text, more = {}) {
  return { model: model.name, inputs: text, truncate: true, ...(model.task === "ner" && { tokens: true }), ...more };
}

/**
 * Read a text: every number of every gate, or, where that is over the service's limit, of one layer, then of one
 * direction.
 */
export async function read(model, text, { layer, direction, signal }) {
  const narrower = [{}, { layers: [layer] }, { layers: [layer], directions: [direction] }];
  for (const [step, selection] of narrower.entries()) {
    try {
      const asked = { method: "POST", body: request(model, text, selection), accept: SAFETENSORS, signal };
      const bytes = await (await send("gates", asked)).arrayBuffer();
      performance.mark("answer"); // what benchmarks/page.py measures from
      const { metadata, tensors } = readSafetensors(bytes);
      return new Reading(model, text, JSON.parse(metadata.response), tensors, step > 0);
    } catch (error) {
      if (error.status !== 413 || step === narrower.length - 1) throw error;
    }
  }
}

/** How a tagger's logits at one token split over the tokens. */
export async function explain(model, text, token, signal) {
  const body = request(model, text, { explain: token, reduce: "summary", gates: ["hidden"] });
  const answer = await (await send("gates", { method: "POST", body, signal })).json();
  return answer.traces[0].contributions ?? { note: answer.traces[0].contributions_note };
}

/** What each unit does over the text, and what all units do at each token, layer by layer. */
export async function statistics(model, text, signal) {
  const body = request(model, text, { reduce: "summary", statistics: true, contributions: false, decimals: 6 });
  return (await (await send("gates", { method: "POST", body, signal })).json()).traces[0].layers;
}

/** The bytes of a whole trace, to keep. */
export async function download(body, binary) {
  return (await send("gates", { method: "POST", body, accept: binary ? SAFETENSORS : "application/json" })).blob();
}
