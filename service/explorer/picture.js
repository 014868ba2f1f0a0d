// The page's picture as one SVG: the answer, what mattered, and the panels as they are in sight.

import { number, signed } from "./dom.js";
import { chosenLabel } from "./mattered.js";

const WIDTH = 1200;
const EDGE = 28;
const PANEL = { left: 34, cells: 200, labels: 72, title: 46, label: 78 };
/** Other programs draw an SVG in fonts of their own. DejaVu Sans is a fifth wider than most. */
const FAMILY = "system-ui, 'Noto Sans', sans-serif";
const WIDER = 1.2;
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
// What XML cannot hold, not even escaped.
const UNWRITABLE = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu;

const safe = (text) => String(text).replace(UNWRITABLE, "\ufffd").replace(/[&<>"]/g, (sign) => ENTITIES[sign]);
const ruler = document.createElement("canvas").getContext("2d");

/** The width to keep free for a text, in pixels. */
function measured(text, size, weight = 400) {
  ruler.font = `${weight} ${size}px ${FAMILY}`;
  return ruler.measureText(text).width * WIDER;
}

/** As much of a text as fits into a width. */
function fitted(text, width, size, weight) {
  if (measured(text, size, weight) <= width) return text;
  const characters = [...text];
  let [least, most] = [0, characters.length];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (measured(`${characters.slice(0, middle).join("")}…`, size, weight) <= width) least = middle;
    else most = middle - 1;
  }
  return `${characters.slice(0, least).join("")}…`;
}

class Sheet {
  constructor(style) {
    this.parts = [];
    this.y = EDGE;
    this.colour = (name) => style.getPropertyValue(name).trim();
  }

  text(x, y, text, { size = 14, colour = "--ink", weight = 400, anchor = "start", turn = "" } = {}) {
    const rotated = turn && ` transform="rotate(${turn} ${x.toFixed(1)} ${y.toFixed(1)})"`;
    this.parts.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" font-weight="${weight}" fill="${this.colour(colour)}" text-anchor="${anchor}"${rotated}>${safe(text)}</text>`);
  }

  box(x, y, width, height, fill, more = "") {
    this.parts.push(`<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" height="${height}" fill="${fill}" ${more}/>`);
  }
}

/** The picture: {text (SVG), width, height}. */
export function pictureOf({ sides, plan, maps, labels, view, label }) {
  const sheet = new Sheet(getComputedStyle(document.documentElement));
  for (const side of sides) answer(sheet, side, label);
  panels(sheet, plan, maps, labels, view);
  const height = Math.ceil(sheet.y + EDGE);
  const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="${FAMILY}">` +
    `<title>${safe(sides.map(({ reading }) => `${reading.model.name}: ${reading.text}`).join(" / "))}</title>` +
    `<rect width="${WIDTH}" height="${height}" fill="${sheet.colour("--ground")}"/>${sheet.parts.join("")}</svg>`;
  return { text, width: WIDTH, height };
}

function answer(sheet, { reading, contributions, explained }, label) {
  const { prediction, model } = reading;
  const said = prediction.scores
    ? `${prediction.label}, ${number(100 * prediction.score, 1)} %`
    : prediction.entities.map((entity) => `${entity.text} (${entity.label})`).join(", ") || "no entities";
  const room = WIDTH - 2 * EDGE;
  sheet.text(EDGE, sheet.y + 16, fitted(model.name, room, 18, 650), { size: 18, weight: 650 });
  sheet.text(EDGE, sheet.y + 40, fitted(said, room, 16), { size: 16, colour: "--muted" });
  sheet.y += 56;
  if (!contributions?.labels) return;
  const chosen = chosenLabel(reading, contributions, label, explained);
  const at = contributions.labels.indexOf(chosen);
  const shares = contributions.tokens.map((row) => row[at]);
  const most = Math.max(...shares.map(Math.abs), 1e-9);
  let x = EDGE;
  reading.tokens.forEach((token, position) => {
    const text = fitted(token.text, 420, 14);
    const width = Math.max(44, measured(text, 14) + 12);
    if (x + width > WIDTH - EDGE) {
      x = EDGE;
      sheet.y += 46;
    }
    const share = shares[position];
    const tint = sheet.colour(share < 0 ? "--against" : "--for");
    sheet.box(x, sheet.y, width, 40, sheet.colour("--surface"), `rx="7" stroke="${sheet.colour("--line")}"`);
    sheet.box(x, sheet.y, width, 40, tint, `rx="7" fill-opacity="${(0.58 * Math.abs(share) / most).toFixed(3)}"`);
    sheet.text(x + width / 2, sheet.y + 18, text, { anchor: "middle" });
    sheet.text(x + width / 2, sheet.y + 33, signed(share), { size: 11, anchor: "middle" });
    x += width + 5;
  });
  sheet.y += 60;
  const total = shares.reduce((before, share) => before + share, 0);
  const sum = `bias ${number(contributions.bias[at])} + tokens ${number(total)} = logit ${number(contributions.logits[at])} of “${chosen}”`;
  sheet.text(EDGE, sheet.y, fitted(sum, room, 14));
  sheet.y += 26;
}

function panels(sheet, plan, maps, labels, view) {
  const wide = plan.length % 3 === 0 && plan.some(({ side }) => side === "difference") ? 3 : 2;
  const width = (WIDTH - 2 * EDGE - (wide - 1) * 20) / wide;
  plan.forEach((panel, at) => {
    const x = EDGE + (at % wide) * (width + 20);
    if (at && at % wide === 0) sheet.y += PANEL.title + PANEL.cells + PANEL.labels;
    one(sheet, panel, maps[at], labels, view, x, width);
  });
  sheet.y += PANEL.title + PANEL.cells + PANEL.labels;
}

function one(sheet, panel, map, labels, view, left, width) {
  const x = left + PANEL.left;
  const y = sheet.y + PANEL.title;
  const cells = width - PANEL.left;
  const rows = panel.order.length;
  const { low, high } = panel.colours;
  const range = `${number(low, 1)} to ${number(high, 1)}`;
  sheet.text(x, y - 25, fitted(panel.title, cells - measured(range, 11) - 8, 14, 650), { weight: 650 });
  sheet.text(left + width, y - 25, range, { size: 11, colour: "--muted", anchor: "end" });
  sheet.text(x, y - 9, fitted(panel.note, cells, 12), { size: 12, colour: "--muted" });
  const cut = document.createElement("canvas");
  const [from, to] = [Math.floor(view.x[0]), Math.ceil(view.x[1])];
  const [top, bottom] = [Math.floor(view.y[0] * rows), Math.ceil(view.y[1] * rows)];
  cut.width = to - from;
  cut.height = bottom - top;
  cut.getContext("2d").drawImage(map.image, -from, -top);
  sheet.parts.push(`<image x="${x}" y="${y}" width="${cells.toFixed(1)}" height="${PANEL.cells}" preserveAspectRatio="none" image-rendering="pixelated" href="${cut.toDataURL("image/png")}"/>`);
  sheet.box(x, y, cells, PANEL.cells, "none", `stroke="${sheet.colour("--line")}"`);
  for (let row = top; row < bottom; row += Math.max(1, Math.ceil((bottom - top) / 8))) {
    sheet.text(x - 6, y + ((row + 0.5 - top) / (bottom - top)) * PANEL.cells + 4, panel.order[row], { size: 10, colour: "--muted", anchor: "end" });
  }
  const step = cells / (to - from);
  const every = Math.max(1, Math.ceil(16 / step));
  for (let column = from; column < to; column += every) {
    const name = fitted(labels[column], PANEL.label, 10);
    sheet.text(x + (column + 0.5 - from) * step + 3, y + PANEL.cells + 13, name, { size: 10, colour: "--muted", anchor: "end", turn: "-52" });
  }
}

/** A picture as PNG, two pixels for one. */
export async function rasterised({ text, width, height }) {
  const address = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = width * 2;
    canvas.height = height * 2;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  } finally {
    URL.revokeObjectURL(address);
  }
}
