// One stream of a text: over a WebSocket, or, where none can be opened, piece by piece over `POST /stream`.

import { key, postStream } from "./client.js";

const NORMAL = 1000;

export class Stream {
  /**
   * `opening` is the first message. `onEvent(event)` gets the service's messages, `onFallback()` is called when the
   * stream goes on by POST, `onLost(code)` when an open connection ends, `onError(message)` when the stream cannot go on.
   */
  constructor(opening, { onEvent, onFallback, onLost, onError }) {
    this._opening = opening;
    this._on = { onEvent, onFallback, onLost, onError };
    this._waiting = [];
    this._state = null;
    this._ready = this._closed = this._posting = this._posts = false;
    const url = new URL("stream", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    try {
      this._socket = new WebSocket(url);
    } catch {
      this._fallBack();
      return;
    }
    this._socket.addEventListener("open", () => this._open());
    this._socket.addEventListener("message", ({ data }) => this._take(JSON.parse(data)));
    this._socket.addEventListener("close", ({ code }) => this._end(code));
  }

  /** Send a piece: `{ text }` or `{ end: true }`. */
  send(piece) {
    if (this._closed) return;
    if (this._ready) this._socket.send(JSON.stringify(piece));
    else this._waiting.push(piece);
    if (this._posts) this._post();
  }

  close() {
    this._closed = true;
    this._socket?.close(NORMAL);
    this._abort?.abort();
  }

  _open() {
    const known = key();
    this._socket.send(JSON.stringify({ ...this._opening, ...(known && { key: known }) }));
  }

  _take(event) {
    if (this._closed) return;
    if (event.type === "ready") {
      this._ready = true;
      for (const piece of this._waiting.splice(0)) this._socket.send(JSON.stringify(piece));
    } else if (event.type === "error" && event.status !== undefined) {
      this._refused = true;
      this._on.onError(event.detail);
    } else {
      this._on.onEvent(event);
    }
  }

  _end(code) {
    if (this._closed || this._refused) return;
    if (this._ready) this._on.onLost(code);
    else this._fallBack();
    this._ready = false;
  }

  _fallBack() {
    this._posts = true;
    this._abort = new AbortController();
    this._on.onFallback();
    this._post();
  }

  /** Send what waits as one piece, with the state of the answer before; one request at a time. */
  async _post() {
    if (this._posting || this._closed) return;
    this._posting = true;
    try {
      while (this._waiting.length && !this._closed) {
        const pieces = this._waiting.splice(0);
        const text = pieces.map((piece) => piece.text ?? "").join("");
        const end = pieces.some((piece) => piece.end);
        const { state_every: _, ...options } = this._opening;
        const answer = await postStream({ ...options, text, end, state: this._state }, this._abort.signal);
        if (this._closed) return;
        this._state = answer.state;
        for (const event of answer.events) this._on.onEvent(event);
        if (answer.prediction) this._on.onEvent({ type: "done", prediction: answer.prediction });
      }
    } catch (error) {
      if (!this._closed) this._on.onError(error.message);
    } finally {
      this._posting = false;
    }
  }
}
