// llama3pure's JavaScript engine as a target, from a checkout of https://github.com/lrusso/llama3pure:
//
//     python -m hifi_ref.conform "exec:node docs/adapters/llama3pure.mjs CHECKOUT/llama3pure-js-engine.js"
//
// decode is what it makes of a tensor; encode of Q8_0 is what its cache and its activations take; dot is a row of weights
// with such activations, for the formats that the reference multiplies with Q8_0 too.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const IDS = {
  F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q2_K: 10, Q3_K: 11, Q4_K: 12, Q5_K: 13, Q6_K: 14,
  IQ4_NL: 20, IQ1_M: 29, BF16: 30,
};
const DOTS = ["Q4_0", "Q5_0", "IQ4_NL"];
// Its functions are the script's own; what stands behind it can call them.
const engine = new Function(
  `${readFileSync(process.argv[2], "utf8")}
  return {
    load(bytes) { ggufData = bytes.buffer; ggufUint8 = bytes; ggufInt8 = new Int8Array(bytes.buffer); },
    decode: dequantizeTensor, size: getTypeSize, weights: getBlockSize, q8: quantizeToQ8_0Cache, dot: getVecDotQ8Func,
  };`,
)();

const bytesOf = (text) => Uint8Array.from(Buffer.from(text, "hex"));

function answer(operation, name, first, second, rows) {
  const type = IDS[name];
  if (type === undefined) return null;
  const given = bytesOf(first);
  if (operation === "decode") {
    engine.load(given);
    const values = engine.decode(0, (given.length / engine.size(type)) * engine.weights(type), type);
    return Buffer.from(values.buffer);
  }
  if (operation === "encode" && name === "Q8_0") {
    const out = new Uint8Array((given.length / 4 / 32) * 34);
    engine.q8(new Float32Array(given.buffer), 0, out, new Int8Array(out.buffer), 0, given.length / 4);
    return Buffer.from(out);
  }
  if (operation === "dot" && DOTS.includes(name)) {
    const a = bytesOf(second);
    engine.load(given);
    const dot = engine.dot(type);
    const at = (row) => (row * given.length) / rows;
    const sums = Array.from({ length: rows }, (_, row) => dot(a, new Int8Array(a.buffer), at(row), (a.length / 34) * 32));
    return Buffer.from(Float32Array.from(sums).buffer);
  }
  return null;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [operation, name, first, second, more] = line.split(" ");
  const rows = more?.startsWith("rows=") ? Number(more.slice(5)) : 1;
  if (operation === "hello") {
    console.log("ok llama3pure, JavaScript");
  } else {
    const bytes = answer(operation, name, first, second, rows);
    console.log(bytes === null ? "no" : `ok ${bytes.toString("hex")}`);
  }
}
