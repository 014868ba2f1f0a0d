// The page of the API document: Swagger UI over openapi.json, with the key that the explorer was given.

import { apiDocument, authorization } from "./client.js";
import { h } from "./dom.js";
import { askForKey } from "./key.js";

// All addresses are relative to /docs: /docs/ is the same page.
if (location.pathname.endsWith("/")) history.replaceState(null, "", `../docs${location.hash}`);

const routes = document.getElementById("routes");

/** Requests from the page carry the key, unless one was entered in Swagger UI itself. */
function withKey(request) {
  request.headers = { ...authorization(), ...request.headers };
  return request;
}

async function start() {
  try {
    const spec = await apiDocument();
    spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }]; // also below a proxy's prefix
    window.SwaggerUIBundle({ spec, domNode: routes, deepLinking: true, requestInterceptor: withKey, validatorUrl: null });
  } catch (error) {
    if (error.status === 401) return askForKey(document.getElementById("ask"), start);
    routes.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
  } finally {
    routes.setAttribute("aria-busy", "false");
  }
  return undefined;
}

start();
