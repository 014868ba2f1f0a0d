// ONNX Runtime Web: `answer` runs in Node and in a browser alike; as a program in Node it speaks worker.py's protocol.

let loaded = { graph: "", session: null };

/** Milliseconds: of CPU in Node, by the clock in a browser, which tells no CPU time. */
function now() {
  if (typeof process === "undefined") return performance.now();
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** The logits of a batch, and with `seconds` the milliseconds of the cheapest run; or why there are none. */
export async function answer(ort, read, asked) {
  try {
    if (loaded.graph !== asked.graph) {
      const options = { executionProviders: ["wasm"], logSeverityLevel: 4 };
      if (asked.weights) {
        options.externalData = [{ path: "weights.safetensors", data: await read(asked.weights) }];
      }
      loaded = { graph: asked.graph, session: await ort.InferenceSession.create(await read(asked.graph), options) };
    }
    const { tokens, lengths, shape } = asked.batch;
    const feed = () => ({
      tokens: new ort.Tensor("int32", Int32Array.from(tokens), shape),
      lengths: new ort.Tensor("int32", Int32Array.from(lengths), [lengths.length]),
    });
    const { logits } = await loaded.session.run(feed());
    const found = { shape: Array.from(logits.dims), logits: Array.from(logits.data) };
    if (asked.seconds) {
      const times = [];
      const ends = performance.now() + 1000 * asked.seconds;
      while (times.length < 3 || performance.now() < ends) {
        const started = now();
        await loaded.session.run(feed());
        times.push(now() - started);
      }
      found.milliseconds = Math.min(...times);
    }
    return found;
  } catch (error) {
    return { refused: String(error.message ?? error) };
  }
}

if (typeof process !== "undefined" && process.argv[2]) {
  const { createInterface } = await import("node:readline");
  const { readFile } = await import("node:fs/promises");
  const { pathToFileURL } = await import("node:url");
  const folder = `${process.argv[2]}/node_modules/onnxruntime-web`;
  const ort = await import(pathToFileURL(`${folder}/dist/ort.node.min.mjs`));
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "fatal";
  console.log(JSON.stringify({ version: JSON.parse(await readFile(`${folder}/package.json`)).version }));
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(ort, (path) => readFile(path), JSON.parse(line))));
  }
  process.exit(0);
}
