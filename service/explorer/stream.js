// A text that the service reads as it comes: over a WebSocket, or, where none can be opened, piece by piece over
// `POST /stream`. The text is kept here, so that a stream goes on when its connection ends: from the state that the
// service sent last, or else from the beginning.

import { key, postStream } from "./client.js";

const [NORMAL, IDLE, INVALID, PASSING] = [1000, 408, 422, [429, 503]];
/** UTF-16 units of one message: a long text that is pasted stays under the service's limit. */
const PIECE = 16_384;
/** A connection that was lost is opened again after one second, then after two, and so on. */
const [AGAIN_AFTER, MOST_TRIES] = [1000, 5];

/** `place`, but never between the two halves of one character. */
export const whole = (text, place) => (/[\ud800-\udbff]/.test(text[place - 1] ?? "") ? place - 1 : place);

/** UTF-16 units of the first `count` code points of a text. */
const units = (text, count) => Array.from(text).slice(0, count).join("").length;

export class Stream {
  static _reached = false; // whether a WebSocket was ever opened: if so, another way is not looked for

  /**
   * `opening` is the first message. `onEvent(event)` gets the service's events, `onAnew()` is called when the text is
   * read again from its beginning, `onNotice(message)` says how the connection is (null: as it should be), and
   * `onError(message)` that the stream cannot go on.
   */
  constructor(opening, { onEvent, onAnew, onNotice, onError }) {
    this._opening = opening;
    this._on = { onEvent, onAnew, onNotice, onError };
    this._text = "";
    this._ended = this._done = this._closed = false;
    this._last = null; // the last state, and how much of the text it covers
    this._tries = 0;
    this._connect();
  }

  /** Send the next piece of the text. */
  send(text) {
    this._text += text;
    this._push();
  }

  /** Say that the text has ended. */
  end() {
    this._ended = true;
    this._push();
  }

  close() {
    this._closed = true;
    clearTimeout(this._timer);
    this._socket?.close(NORMAL);
    this._abort?.abort();
  }

  _connect() {
    this._ready = this._asleep = false;
    const url = new URL("stream", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    try {
      const socket = new WebSocket(url);
      const on = (name, act) => socket.addEventListener(name, (event) => socket === this._socket && !this._closed && act(event));
      on("open", () => this._open());
      on("message", ({ data }) => this._take(JSON.parse(data)));
      on("close", () => this._lost());
      this._socket = socket;
    } catch {
      this._fallBack();
    }
  }

  _open() {
    const known = key();
    const state = this._last?.state;
    this._socket.send(JSON.stringify({ ...this._opening, ...(state && { state }), ...(known && { key: known }) }));
  }

  _take(event) {
    if (event.type === "ready") {
      Stream._reached = this._ready = true;
      this._on.onNotice(null);
      this._sent = this._last ? units(this._text, this._last.read) : 0;
      this._endSent = false;
      this._last = null;
      this._push();
    } else if (event.type === "state") {
      this._last = event;
    } else if (event.type === "error") {
      this._refused(event);
    } else {
      this._tries = 0;
      this._done = event.type === "done";
      this._on.onEvent(event);
    }
  }

  _refused({ status, detail }) {
    if (status === IDLE && this._ready) {
      this._drop();
      this._asleep = true; // until there is more to send
      if (this._ended || (this._last && units(this._text, this._last.read) < this._text.length)) {
        this._push(); // what was sent while the service ended the stream, and was not read
      }
    } else if (status === INVALID && !this._ready && this._last) {
      this._drop();
      this._again(); // the service that is there now cannot use the state
      this._connect();
    } else if (this._ready || !Stream._reached || !PASSING.includes(status)) {
      this._drop();
      if (!this._done) this._on.onError(detail);
    }
  }

  /** From now on no event of the connection counts. */
  _drop() {
    const socket = this._socket;
    this._socket = null;
    this._ready = false;
    socket.close(NORMAL);
  }

  _lost() {
    const [ready] = [this._ready, this._drop()];
    if (this._done) return;
    if (!ready && !Stream._reached) {
      this._fallBack();
      return;
    }
    this._tries += 1;
    if (this._tries > MOST_TRIES) {
      this._on.onError("The connection was lost. Step or play begins the text again.");
      return;
    }
    this._on.onNotice("The connection was lost; the stream goes on in a moment.");
    if (!this._last) this._again();
    this._timer = setTimeout(() => this._connect(), AGAIN_AFTER * 2 ** (this._tries - 1));
  }

  /** Forget what was read. */
  _again() {
    this._last = null;
    this._on.onAnew();
  }

  /** Send what the service does not have yet. */
  _push() {
    if (this._posts) this._post();
    else if (this._asleep && !this._done) {
      if (!this._last) this._again();
      this._connect();
    } else if (this._ready) {
      for (let text = this._next(); text; text = this._next()) this._socket.send(JSON.stringify({ text }));
      if (this._ended && !this._endSent) this._socket.send(JSON.stringify({ end: true }));
      this._endSent = this._ended;
    }
  }

  _next() {
    const text = this._text.slice(this._sent, whole(this._text, this._sent + PIECE));
    this._sent += text.length;
    return text;
  }

  _fallBack() {
    this._posts = true;
    this._sent = 0;
    this._abort = new AbortController();
    this._on.onNotice("No WebSocket could be opened; the text is sent by POST instead.");
    this._post();
  }

  /** Send what is not sent yet, with the state of the answer before; one request at a time. */
  async _post() {
    if (this._posting) return;
    this._posting = true;
    try {
      while (!this._closed && !this._done && (this._sent < this._text.length || this._ended)) {
        const text = this._next();
        const end = this._ended && this._sent === this._text.length;
        const answer = await postStream({ ...this._opening, text, end, state: this._last?.state ?? null }, this._abort.signal);
        if (this._closed) return;
        this._last = { state: answer.state };
        this._done = end;
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
