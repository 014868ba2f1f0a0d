// Two texts side by side, token by token: the longest common subsequence, and what differs between in pairs.

/** Columns of pairs [token of the first, token of the second], -1 where one has none. */
export function align(first, second) {
  const a = first.map((token) => token.text.toLowerCase());
  const b = second.map((token) => token.text.toLowerCase());
  const wide = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * wide + j;
      longest[at] = a[i] === b[j] ? longest[at + wide + 1] + 1 : Math.max(longest[at + wide], longest[at + 1]);
    }
  }
  const columns = [];
  let onlyA = [];
  let onlyB = [];
  const flush = () => {
    for (let at = 0; at < Math.max(onlyA.length, onlyB.length); at++) columns.push([onlyA[at] ?? -1, onlyB[at] ?? -1]);
    onlyA = [];
    onlyB = [];
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      flush();
      columns.push([i++, j++]);
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * wide + j] >= longest[i * wide + j + 1])) onlyA.push(i++);
    else onlyB.push(j++);
  }
  flush();
  return columns;
}

/** The columns' names: a token, or both where they differ. */
export function names(columns, first, second) {
  return columns.map(([a, b]) => {
    const [one, other] = [first[a]?.text, second[b]?.text];
    if (one === undefined) return other;
    return other === undefined || other.toLowerCase() === one.toLowerCase() ? one : `${one}/${other}`;
  });
}
