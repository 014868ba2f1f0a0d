// Live reading: the text goes to the service while it is typed or played, and the state moves with every token.

import { domain, legend, lines } from "./charts.js";
import { debounce, h, percent, tableBehind } from "./dom.js";
import { COLUMNS, Growing } from "./growing.js";
import { Stream, whole } from "./stream.js";

const PACE = { slow: 900, medium: 400, fast: 120 };
/** Milliseconds after which what was typed is sent, and after which an edit begins the text anew. */
const [SEND_AFTER, ANEW_AFTER] = [60, 250];
const DEFAULT = "The plot is thin and the jokes are not funny, but the two leads are wonderful.";

/** Where the next word of a text ends, with the space behind it. */
function nextWord(text, from) {
  const found = /^\s*\S+\s?/.exec(text.slice(from));
  return found ? from + found[0].length : text.length;
}

export function createLive({ store, announce, theme }) {
  let models = [];
  let stream = null;
  let model = null;
  let sent = 0; // UTF-16 units of the text that the service has
  let ended = false;
  let timer = null;
  let tokens = [];

  const open = h("button", { type: "button", id: "live-open", "aria-expanded": "false", on: { click: () => store.set({ live: store.state.live ? null : 1 }) } }, "Live reading");
  const select = h("select", { id: "live-model", on: { change: () => { pause(); store.set({ liveModel: select.value }); anew(); } } });
  const text = h("textarea", { id: "live-text", rows: "3", spellcheck: "false", placeholder: "Type, and the state moves with every word.", on: { input: edited } });
  const play = h("button", { type: "button", id: "live-play", "aria-pressed": "false", on: { click: () => (timer === null ? start() : pause()) } }, "Play");
  const step = h("button", { type: "button", id: "live-step", on: { click: () => { pause(); forward(true); } } }, "Step");
  const finish = h("button", { type: "button", id: "live-finish", on: { click: () => { pause(); flush(); end(); } } }, "Finish");
  const again = h("button", { type: "button", id: "live-again", on: { click: () => { pause(); move(0); anew(); text.focus(); } } }, "From the start");
  const pace = h("select", { id: "live-pace", on: { change: () => { if (timer !== null) { pause(); start(); } } } },
    Object.keys(PACE).map((name) => h("option", { value: name, selected: name === "medium" }, name)));
  const notice = h("p", { class: "notice", id: "live-notice", role: "status", hidden: true });
  const answer = h("p", { class: "live-answer", id: "live-answer" });
  const curve = h("div", { class: "chart-box", id: "live-curve" });
  const growing = new Growing({ theme, announce });
  const table = tableBehind("Answers token by token as a table", () => ({
    head: ["token", "text", "answer"],
    rows: tokens.map((token) => [token.t, token.text, said(token)]),
  }));
  const body = h("div", { class: "stack" },
    h("div", { class: "field" }, h("label", { for: "live-model" }, "Model"), select),
    h("label", { for: "live-text", class: "unseen" }, "Text that is read live"), text,
    h("div", { class: "row", role: "group", "aria-label": "Live reading" }, play, step, finish, again,
      h("div", { class: "field" }, h("label", { for: "live-pace" }, "Pace"), pace)),
    notice, answer, curve, growing.element, table);
  const element = h("div", { class: "card live", hidden: true },
    h("div", { class: "row" }, open, h("span", { class: "hint" }, "type or play a text: it is sent as it comes, and the answer and the gates move")));
  const speak = debounce(() => answer.textContent && announce(answer.textContent), 1000);
  const flushSoon = debounce(flush, SEND_AFTER);
  const anewSoon = debounce(() => anew(), ANEW_AFTER);
  new ResizeObserver(() => drawCurve()).observe(curve);

  function said({ scores, label }) {
    if (!scores) return label;
    const best = Object.keys(scores).reduce((one, other) => (scores[other] > scores[one] ? other : one));
    return `${best} ${percent(scores[best])}`;
  }

  function tell(message) {
    notice.hidden = !message;
    notice.textContent = message ?? "";
  }

  function move(place) {
    sent = place;
    store.set({ liveAt: sent || null });
  }

  /** A stream of its own for the text from its beginning; the first `sent` units of it are read again. */
  function anew() {
    flushSoon.cancel();
    anewSoon.cancel();
    stop();
    ended = false;
    model = models.find(({ name }) => name === select.value);
    if (!store.state.live || !model) return;
    clear();
    tell(null);
    const opening = { model: model.name, gates: Object.keys(model.equations), layers: [model.layers - 1], decimals: 4 };
    stream = new Stream(opening, { onEvent: take, onAnew: clear, onNotice: tell, onError: (message) => { pause(); stop(); tell(message); } });
    if (sent) stream.send(text.value.slice(0, sent));
  }

  function clear() {
    tokens = [];
    answer.textContent = "";
    drawCurve();
    growing.begin(model);
  }

  function stop() {
    stream?.close();
    stream = null;
  }

  function take(event) {
    if (event.type === "token") {
      tokens.push(event);
      growing.add(event, Object.values(event.gates ?? {})[0] ?? {});
      answer.textContent = `“${event.text}”: ${said(event)}`;
    } else if (event.type === "done") {
      const { label, score, entities } = event.prediction;
      const found = (entities ?? []).map((each) => `${each.text} (${each.label})`).join(", ");
      answer.textContent = label ? `Whole text: ${label} ${percent(score)}` : `Whole text: ${found || "no entity"}`;
    } else return;
    frame ??= requestAnimationFrame(drawCurve);
    speak();
  }

  let frame = null;
  function drawCurve() {
    frame = null;
    const shown = tokens.slice(-COLUMNS);
    if (!shown.length || !shown[0].scores) {
      curve.replaceChildren(shown.length ? h("p", { class: "chips" }, shown.map((each) => h("span", { class: "share" }, each.text, h("span", { class: "chip-tag" }, each.label)))) : "");
      return;
    }
    const series = Object.keys(shown[0].scores).map((name, at) => ({ name, hue: at ? "hidden" : "cell", values: shown.map(({ scores }) => scores[name]) }));
    const [low, high] = domain(series);
    curve.replaceChildren(
      h("div", { class: "names" }, legend(series).map((line, at) => h("span", { class: "name" }, line, series[at].name))),
      lines({ width: Math.max(260, curve.clientWidth), height: 200, label: `The answer after each of ${shown.length} tokens`, series, labels: shown.map((each) => each.text), low, high }));
  }

  /** What a person did to the text. Text behind what was read is sent, if all before it was; any other edit begins anew. */
  function edited() {
    const before = store.state.liveText ?? "";
    const caughtUp = sent >= whole(before, before.length);
    const kept = text.value.startsWith(before.slice(0, sent)) && !ended;
    store.set({ liveText: text.value });
    if (!kept) {
      move(caughtUp ? whole(text.value, text.value.length) : 0);
      stop();
      anewSoon();
    } else if (caughtUp && timer === null) flushSoon();
  }

  function sendTo(place) {
    if (!stream) anew();
    if (place <= sent || !stream) return;
    stream.send(text.value.slice(sent, place));
    move(place);
  }

  function flush() {
    flushSoon.cancel();
    sendTo(whole(text.value, text.value.length));
  }

  function end() {
    if (ended || !stream || !text.value.trim()) return;
    ended = true;
    stream.end();
  }

  /** Read one word more, or end the text behind the last. Returns whether there is more to do. */
  function forward(wraps) {
    if (wraps && (ended || !stream)) {
      move(0);
      anew();
    }
    if (sent < whole(text.value, text.value.length)) {
      sendTo(whole(text.value, nextWord(text.value, sent)));
      return true;
    }
    end();
    return false;
  }

  function start() {
    if (!text.value.trim()) return;
    if (ended || sent >= whole(text.value, text.value.length)) {
      move(0);
      anew();
    }
    timer = setInterval(() => forward(false) || pause(), PACE[pace.value]);
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }

  /** Show or hide the mode. */
  function show() {
    const live = Boolean(store.state.live) && models.length > 0;
    if (live) element.append(body);
    else body.remove();
    open.setAttribute("aria-expanded", String(live));
    open.textContent = live ? "Stop live reading" : "Live reading";
    if (live && !stream) anew();
    if (!live) {
      pause();
      stop();
    }
  }

  /** Offer the models that read forward, and go on where the link says. */
  function offer(served) {
    models = served.filter(({ directions, equations }) => directions.length === 1 && directions[0] === "forward" && equations);
    element.hidden = !models.length;
    if (!models.length) return show();
    const before = select.value;
    const named = models.find(({ name }) => name === store.state.liveModel) ?? models.find(({ name }) => name === "sentiment-lstm") ?? models[0];
    select.replaceChildren(...models.map(({ name }) => h("option", { value: name, selected: name === named.name }, name)));
    if (!before) {
      text.value = store.state.liveText ?? DEFAULT;
      if (store.state.liveText === null) store.state.liveText = DEFAULT;
      sent = whole(text.value, Math.min(store.state.liveAt ?? 0, text.value.length));
    }
    return show();
  }

  return { element, offer, show };
}
