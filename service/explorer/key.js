// Ask for an API key, once.

import { setKey } from "./client.js";
import { h } from "./dom.js";

/** Put the form before what `parent` holds. `then()` is called when a key has been given. */
export function askForKey(parent, then) {
  if (document.getElementById("key")) return;
  const key = h("input", { id: "key", type: "password", autocomplete: "off", required: true });
  const use = (event) => {
    event.preventDefault();
    setKey(key.value.trim());
    form.remove();
    then();
  };
  const form = h("form", { class: "card key-form", on: { submit: use } },
    h("label", { for: "key" }, "This service asks for an API key. It stays in this tab."), key, h("button", { type: "submit" }, "Use it"));
  parent.prepend(form);
  key.focus();
}
