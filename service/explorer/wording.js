// A text with one token replaced, or negated. Tokens are English words, as the models know them.

const NEGATIONS = new Set(["not", "n't", "n’t", "never", "no"]);
/** What stands before "n't" and is no word without it. */
const WHOLE = { ca: "can", wo: "will", sha: "shall" };
/** Verbs that have their "not" behind them. */
const AUXILIARIES = new Set([
  "am", "is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would", "shall",
  "should", "must", "may", "might",
]);

const low = ({ tokens }, at) => tokens[at]?.text.toLowerCase();
const isNegation = (reading, at) => NEGATIONS.has(low(reading, at));

/** The text of a reading with `word` in place of a token. */
export function replaced({ text, spans }, token, word) {
  const [start, end] = spans[token];
  return text.slice(0, start) + word + text.slice(end);
}

/**
 * The text of a reading with a token negated: without the negation that the token is, or has; else with "not" before
 * it, and behind it for an auxiliary verb.
 */
export function negated(reading, token) {
  const { text, spans } = reading;
  const there = [token, token - 1, ...(AUXILIARIES.has(low(reading, token)) || low(reading, token) in WHOLE ? [token + 1] : [])]
    .find((at) => isNegation(reading, at));
  if (there !== undefined) return without(reading, there);
  const [start, end] = spans[token];
  if (AUXILIARIES.has(low(reading, token))) return `${text.slice(0, end)} not${text.slice(end)}`;
  const word = text.slice(start, end);
  const first = !text.slice(0, start).trim() && /^\p{Lu}\p{Ll}/u.test(word); // "Good" → "Not good"
  return text.slice(0, start) + (first ? `Not ${word[0].toLowerCase()}${word.slice(1)}` : `not ${word}`) + text.slice(end);
}

/** Without a negation: "is not good" and "isn't good" become "is good", "can't" becomes "can". */
function without({ text, spans, tokens }, at) {
  const [start, end] = spans[at];
  const joined = at > 0 && spans[at - 1][1] === start;
  if (joined) {
    const [from] = spans[at - 1];
    const stem = text.slice(from, start);
    const whole = WHOLE[tokens[at - 1].text.toLowerCase()];
    const kept = whole ? stem[0] + whole.slice(1) : stem;
    return text.slice(0, from) + kept + text.slice(end);
  }
  const before = text.slice(0, start), after = text.slice(end).trimStart();
  if (!after) return before.trimEnd();
  const capital = !before.trim() && /^\p{Lu}/u.test(text.slice(start)); // "Not good" → "Good"
  return before + (capital ? after[0].toUpperCase() + after.slice(1) : after);
}
