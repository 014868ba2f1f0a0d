// A data file that the reader has: its digest, and its inputs with their lines. The formats are those of training.

const TEXTS = new Set([
  "text", "review", "reviewtext", "review_text", "review_body", "sentence", "tweet", "tweet_text", "content", "comment",
  "comment_text", "body", "message", "phrase", "utterance", "headline",
]);
const BLANK = /^[ \t]*$/;
const DOCUMENT = "-DOCSTART-";
const TAG = /^(?:O|[BIESLUMW](?:-\S+)?)$/;
const KEYED = /^#\s*\w[\w.-]* = |^#(?:begin|end) document\b/;
const COUNT = /^\d+(?:[-.]\d+)?$/;
const WORDS = new Set(["token", "tokens", "word", "words", "form"]);
const TAGS = new Set(["tag", "tags", "ner", "ner_tag", "ner_tags", "label", "labels", "iob", "bio", "entity"]);

/** Bytes of a file, as it lies on disk and unpacked, at most. */
export const MAX_BYTES = 64 << 20;

/** A file that cannot be read; the message says why. */
export class DataFileError extends Error {}

/** Read a file: {name, text, sha256}. The digest is of the file as it lies on disk; null where the page may compute none. */
export async function open(file) {
  if (file.size > MAX_BYTES) throw tooLarge(file.size);
  let bytes;
  try {
    bytes = await file.arrayBuffer();
  } catch {
    throw new DataFileError("The file cannot be read: it is a folder, or it changed or went since it was picked.");
  }
  const digest = crypto.subtle && (await crypto.subtle.digest("SHA-256", bytes)); // there on HTTPS and on this machine alone
  const sha256 = digest ? [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("") : null;
  let content = bytes;
  let name = file.name.toLowerCase();
  if (name.endsWith(".gz")) {
    name = name.slice(0, -3);
    content = await unpacked(bytes);
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    throw new DataFileError("The file is not text in UTF-8.");
  }
  if (text.includes("\0")) throw new DataFileError("The file is not text, or not in UTF-8: it has a NUL character.");
  return { name, text, sha256 };
}

const tooLarge = (bytes) => new DataFileError(`The file has ${(bytes / 2 ** 20).toFixed(1)} MiB or more; this page reads files of at most ${MAX_BYTES >> 20}.`);

async function unpacked(bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  const parts = [];
  let size = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      size += part.value.length;
      if (size > MAX_BYTES) break;
      parts.push(part.value);
    }
  } catch {
    throw new DataFileError("The file is no whole gzip file.");
  }
  if (size > MAX_BYTES) {
    reader.cancel();
    throw tooLarge(size);
  }
  return new Blob(parts).arrayBuffer();
}

/**
 * The inputs of a file for a task: {value, lines}. `value` is a text, or a list of tokens; `lines` are the lines of its
 * tokens, or the line of the text. Throws DataFileError.
 */
export function inputsOf({ name, text }, task) {
  const ending = name.split(".").pop();
  const found = ["jsonl", "ndjson"].includes(ending) ? objects(text)
    : task === "ner" ? columns(text, ending)
      : table(ending === "csv" ? records(text) : linesOf(text).filter(([, row]) => row).map(([line, row]) => [line, row.split("\t")]));
  if (!found.length) throw new DataFileError("The file holds no input.");
  return found;
}

/** Whether a text has half of a pair of UTF-16 alone. The service takes none. */
const UNPAIRED = /\p{Surrogate}/u;

/** [line from 1, content] */
function linesOf(text) {
  const end = text.includes("\n") ? "\n" : "\r";
  return text.split(end).map((row, at) => [at + 1, row.endsWith("\r") ? row.slice(0, -1) : row]);
}

const isText = (name) => TEXTS.has(name.trim().toLowerCase().replace(/\W+/g, "_"));

/** The name of the texts among those of a file: "text", or the only one that means as much. */
function textName(names) {
  const found = names.includes("text") ? ["text"] : names.filter(isText);
  if (found.length !== 1) throw new DataFileError(`No column or key is surely the text: there are ${names.join(", ")}.`);
  return found[0];
}

function table(rows) {
  if (!rows.length) return [];
  const [[, header], ...rest] = rows;
  const names = header.map((each) => each.trim());
  const at = names.indexOf(textName(names));
  return rest.filter(([, fields]) => fields.some((each) => each.trim()))
    .map(([line, fields]) => ({ value: fields[at] ?? "", lines: [line] })).filter(({ value }) => value.trim());
}

function objects(text) {
  const rows = linesOf(text).filter(([, row]) => row.trim());
  let key = null;
  return rows.map(([line, row]) => {
    let record;
    try {
      record = JSON.parse(row);
    } catch {
      throw new DataFileError(`Line ${line} is not JSON.`);
    }
    if (typeof record !== "object" || !record || Array.isArray(record)) throw new DataFileError(`Line ${line} is no JSON object.`);
    const tokens = record.tokens ?? record.words;
    if (!Array.isArray(tokens)) key ??= textName(Object.keys(record));
    const value = Array.isArray(tokens) ? tokens : record[key];
    if (!(Array.isArray(value) ? value : [value]).every((each) => typeof each === "string" && !UNPAIRED.test(each))) {
      throw new DataFileError(`Line ${line} has no text, and no list of tokens, all of them strings of whole characters.`);
    }
    return { value, lines: Array.isArray(value) ? value.map(() => line) : [line] };
  }).filter(({ value }) => (Array.isArray(value) ? value.length : value.trim()));
}

/** A token a line, sentences between blank lines. */
function columns(text, ending) {
  if (ending === "csv") throw new DataFileError("A tagger's CSV cannot be read here; columns and JSON lines can.");
  const rows = linesOf(text);
  const sample = rows.find(([, row]) => !BLANK.test(row) && !row.startsWith("#") && !row.startsWith(DOCUMENT))?.[1] ?? "";
  const split = (row) => (sample.includes("\t") ? row.split("\t") : row.replace(/ +$/, "").split(/ +/));
  const names = split(sample);
  const named = names.some((name) => TAGS.has(name.toLowerCase())) ? names.findIndex((name) => WORDS.has(name.toLowerCase())) : -1;
  const parts = rows.map(([line, row]) => [line, BLANK.test(row) ? null : split(row)])
    .filter(([line, row]) => row === null || !isComment(rows[line - 1][1], row, names.length));
  parts.forEach((part, at) => {
    if (part[1]?.[0].split(/[ \t]/, 1)[0] === DOCUMENT && isMark(part[1], names.length, !parts[at - 1]?.[1])) part[1] = null;
  });
  if (parts.some(([, row]) => row && row.length < 2)) throw new DataFileError("No tag beside each token: the columns are parted by neither tabs nor spaces.");
  if (named >= 0) parts.splice(parts.findIndex(([, row]) => row), 1); // the header
  const full = parts.filter(([, row]) => row);
  const counted = names.length > 2 && full.length > 1 && full.every(([, row]) => COUNT.test(row[0]));
  const column = named >= 0 ? named : counted ? 1 : 0;
  const found = [];
  let sentence = null;
  for (const [line, row] of parts) {
    if (row === null) sentence = null;
    else if (!counted || /^\d+$/.test(row[0])) { // 1-2 and 1.1 are CoNLL-U's, and no tokens
      if (!sentence) found.push((sentence = { value: [], lines: [] }));
      sentence.value.push(row[column] ?? "");
      sentence.lines.push(line);
    }
  }
  return found;
}

/** Whether a row that begins with -DOCSTART- marks a new document. Others are words. */
function isMark(fields, width, first) {
  const tags = fields.filter((field) => TAG.test(field));
  return fields.length !== width || fields.includes("-X-") || !tags.length || (first && tags.every((tag) => tag === "O"));
}

const isComment = (row, fields, width) => row.startsWith("#") && (KEYED.test(row)
  || ((fields.length !== width || !fields.slice(1).some((field) => TAG.test(field))) && (fields[0] === "#" || row.startsWith("# "))));

/** Records by RFC 4180, each with the line on which it begins. The separator is the one of the header. */
function records(given) {
  const text = given.includes("\n") ? given : given.replaceAll("\r", "\n");
  const first = text.split(/\r?\n/, 1)[0];
  const separator = [",", ";", "\t", "|"].find((each) => first.split(each).length > 1) ?? ",";
  const found = [];
  let [record, field, quoted, line, began] = [[], "", false, 1, 1];
  const close = () => {
    record.push(field);
    if (record.length > 1 || record[0] !== "") found.push([began, record]);
    [record, field] = [[], ""];
  };
  for (let at = 0; at < text.length; at++) {
    const each = text[at];
    if (each === "\n") line++;
    if (quoted) {
      if (each !== '"') field += each;
      else if (text[at + 1] === '"') field += text[++at];
      else quoted = false;
    } else if (each === '"' && field === "") quoted = true;
    else if (each === separator) {
      record.push(field);
      field = "";
    } else if (each === "\n") {
      close();
      began = line;
    } else if (each !== "\r" || text[at + 1] !== "\n") field += each;
  }
  if (quoted) throw new DataFileError(`Line ${began}: a quoted field does not end.`);
  if (field !== "" || record.length) close();
  return found;
}
