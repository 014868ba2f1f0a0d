// Take it along: the link, a picture, the numbers, and the request that makes them.

import { download, request } from "./client.js";
import { h } from "./dom.js";
import { pictureOf, rasterised } from "./picture.js";

const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The request as a line for a shell. */
export function curl(body, address) {
  return `curl -s ${address}gates -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`;
}

/** The request as lines of Python. JSON's words for true, false and null are not Python's: they stay in a string. */
export function python(body, address) {
  return [
    "import json", "", "import httpx", "from safetensors.numpy import load", "",
    `request = json.loads(${JSON.stringify(JSON.stringify(body))})`,
    `answer = httpx.post("${address}gates", json=request, headers={"Accept": "application/vnd.safetensors"}, timeout=60)`,
    "gates = load(answer.raise_for_status().content)  # input/layer/direction/gate: float32 [tokens, units]",
    "print({name: array.shape for name, array in gates.items()})",
  ].join("\n");
}

function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * A block. `look()` returns {sides, plan, labels, view} as they are shown; `store` knows the link. `refresh(settled)` is
 * called after every change; while what is shown is not what is asked for, nothing can be taken along.
 */
export function createTake({ store, look, announce }) {
  const code = h("pre", { tabindex: "0", "aria-label": "The request" });
  const shown = h("div", { class: "code", hidden: true }, code);
  const status = h("p", { class: "hint", role: "status" });
  const address = new URL("./", location.href.split("#")[0]).href;
  const tell = (text) => {
    status.textContent = text;
    announce(text);
  };
  let told = null; // what makes the text that is shown below
  const below = () => {
    const text = told();
    if (code.textContent !== text) {
      code.textContent = text;
      status.textContent = "";
    }
    shown.hidden = false;
  };
  const copy = async (make, what) => {
    try {
      await navigator.clipboard.writeText(make());
      tell(`${what} is on the clipboard.`);
    } catch {
      told = make;
      below();
      tell(`${what} is below: copy it from there.`);
    }
  };
  const bodyOf = ({ reading, explained }) => request(reading.model, reading.text, {
    decimals: null, ...reading.changes, ...(reading.prediction.tokens && { explain: reading.kept[explained] }),
  });
  const each = async (act) => {
    try {
      for (const side of look().sides) await act(side, `gatelight-${side.reading.model.name}`);
    } catch (error) {
      tell(error.message);
    }
  };
  const say = (make, what) => () => {
    told = () => look().sides.map((side) => make(bodyOf(side), address)).join("\n\n");
    below();
    copy(told, what);
  };
  const button = (label, act) => h("button", { type: "button", on: { click: act } }, label);
  const element = h("div", { class: "card" },
    h("div", { class: "row" },
      button("Copy link", () => copy(() => store.link, "The link")),
      button("PNG", async () => save(await rasterised(pictureOf(look())), "gatelight.png")),
      button("SVG", () => save(new Blob([pictureOf(look()).text], { type: "image/svg+xml" }), "gatelight.svg")),
      button("JSON", () => each(async (side, name) => save(await download(bodyOf(side), false), `${name}.json`))),
      button("safetensors", () => each(async (side, name) => save(await download(bodyOf(side), true), `${name}.safetensors`))),
      button("curl", say(curl, "The curl line")),
      button("Python", say(python, "The Python code"))),
    h("p", { class: "hint" }, "The link holds text and view behind its #, which is not sent to any server. Where the service asks for keys, both requests want the header ", h("code", {}, "Authorization: Bearer KEY"), "."), status, shown);

  function refresh(settled) {
    for (const each of element.querySelectorAll("button")) each.disabled = !settled;
    if (!settled) {
      shown.hidden = true;
      status.textContent = "";
    } else if (told) below();
  }

  return { element, refresh };
}
