// Reads a safetensors file: eight bytes of length, a JSON header, then the numbers. Nothing is copied.

/** The file's float32 tensors by name, each {shape, data}, and its metadata. Throws where it is no such file. */
export function readSafetensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (8 + length > buffer.byteLength) throw new Error("The answer is cut off.");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = new Map();
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(entries)) {
    if (dtype !== "F32") throw new Error(`The tensor ${name} is ${dtype}, not F32.`);
    tensors.set(name, { shape, data: new Float32Array(buffer, 8 + length + start, (end - start) / 4) });
  }
  return { metadata, tensors };
}
