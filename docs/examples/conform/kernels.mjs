// An implementation of Q4_0 and Q8_0, and a decoder of IQ2_XXS, in JavaScript that hifi_ref.conform can judge:
//
//     python -m hifi_ref.conform "exec:node docs/examples/conform/kernels.mjs"
//
// It reads a question a line from stdin and writes an answer a line to stdout. Replace FORMATS by your own; what is not
// offered is answered with "no". Numbers are binary64 in JavaScript: each operation of binary32 is rounded by Math.fround.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const GRIDS = JSON.parse(readFileSync(new URL("../../../golden/grids.json", import.meta.url), "utf8"));

const f32 = Math.fround;

// BINARY16

function widen(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

function roundToEven(x) {
  const down = Math.floor(x);
  return x - down > 0.5 || (x - down === 0.5 && down % 2) ? down + 1 : down;
}

function narrow(value) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  // The exponent of the last place; subnormal numbers share that of the smallest normal ones.
  let unit = -24;
  while (magnitude >= 2 ** (unit + 11)) unit += 1;
  // A carry runs on into the exponent.
  return sign | (((unit + 24) << 10) + roundToEven(magnitude / 2 ** unit));
}

// To the nearest integer, halves away from zero; a scale whose inverse overflows leaves the conversion open.
const roundAway = (x) => (Number.isFinite(x) ? Math.sign(x) * Math.floor(Math.abs(x) + 0.5) : 0);
const truncate = (x) => (Number.isFinite(x) ? Math.trunc(x) : 0);

// FORMATS: decode and encode one block; dot one block with one of Q8_0, in the reference's order of multiplications

const Q4_0 = {
  bytes: 18,
  decode(block) {
    const d = widen(block.getUint16(0, true));
    return Array.from({ length: 32 }, (_, j) => f32((((block.getUint8(2 + (j % 16)) >> (j < 16 ? 0 : 4)) & 15) - 8) * d));
  },
  encode(x, block) {
    const extreme = x.reduce((best, v) => (Math.abs(best) < Math.abs(v) ? v : best), 0);
    const d = f32(extreme / -8);
    const inverse = d ? f32(1 / d) : 0;
    const code = (v) => Math.min(15, truncate(f32(f32(v * inverse) + 8.5)));
    block.setUint16(0, narrow(d), true);
    for (let j = 0; j < 16; j++) block.setUint8(2 + j, code(x[j]) | (code(x[j + 16]) << 4));
  },
  dot(w, a) {
    let sum = 0;
    for (let j = 0; j < 16; j++) {
      sum += ((w.getUint8(2 + j) & 15) - 8) * a.getInt8(2 + j) + ((w.getUint8(2 + j) >> 4) - 8) * a.getInt8(18 + j);
    }
    return f32(f32(sum * widen(w.getUint16(0, true))) * widen(a.getUint16(0, true)));
  },
};

const Q8_0 = {
  bytes: 34,
  ignoresImportance: true,
  decode(block) {
    const d = widen(block.getUint16(0, true));
    return Array.from({ length: 32 }, (_, j) => f32(block.getInt8(2 + j) * d));
  },
  encode(x, block) {
    const d = f32(Math.max(...x.map(Math.abs)) / 127);
    const inverse = d ? f32(1 / d) : 0;
    block.setUint16(0, narrow(d), true);
    for (let j = 0; j < 32; j++) block.setInt8(2 + j, roundAway(f32(x[j] * inverse)));
  },
  dot(w, a) {
    let sum = 0;
    for (let j = 0; j < 32; j++) sum += w.getInt8(2 + j) * a.getInt8(2 + j);
    return f32(sum * f32(widen(w.getUint16(0, true)) * widen(a.getUint16(0, true))));
  },
};

const IQ2_XXS = {
  bytes: 66,
  decode(block) {
    const d = widen(block.getUint16(0, true));
    const { row, sign, scale } = numbersOf("IQ2_XXS", block);
    const magnitudes = row.flatMap((number) => GRIDS.grids.IQ2_XXS.table[number]);
    return magnitudes.map((magnitude, i) => {
      const minus = (GRIDS.signs.table[sign[i >> 3]] >> (i & 7)) & 1;
      const unsigned = (d * (2 * scale[i >> 5] + 1) * magnitude) / 8;
      return f32(minus ? -unsigned : unsigned);
    });
  },
};

// The numbers that are packed in a block, by the triples byte, shift, width of grids.json.
function numbersOf(name, block) {
  const read = (entry) => {
    let value = 0;
    for (let i = 0, at = 0; i < entry.length; at += entry[i + 2], i += 3) {
      value |= ((block.getUint8(entry[i]) >> entry[i + 1]) & ((1 << entry[i + 2]) - 1)) << at;
    }
    return value;
  };
  const numbers = Object.entries(GRIDS.formats[name].numbers);
  return Object.fromEntries(numbers.map(([kind, entries]) => [kind, entries.map(read)]));
}

const FORMATS = { Q4_0, Q8_0, IQ2_XXS };

// THE LINE PROTOCOL

const bytesOf = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const blocksOf = (bytes, size) =>
  Array.from({ length: bytes.length / size }, (_, i) => new DataView(bytes.buffer, i * size, size));

function floatsOf(bytes) {
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

function bytesOfFloats(values) {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => view.setFloat32(4 * i, value, true));
  return Buffer.from(view.buffer);
}

function answer(operation, format, first, second, rows) {
  if (operation === "decode") {
    return bytesOfFloats(blocksOf(bytesOf(first), format.bytes).flatMap((block) => format.decode(block)));
  }
  if (operation === "dot" && format.dot) {
    const w = blocksOf(bytesOf(first), format.bytes);
    const a = blocksOf(bytesOf(second), Q8_0.bytes);
    const sums = Array(rows).fill(0);
    // Several rows, one after another, with the same activations.
    w.forEach((block, i) => {
      const row = Math.floor(i / a.length);
      sums[row] = f32(sums[row] + format.dot(block, a[i % a.length]));
    });
    return bytesOfFloats(sums);
  }
  if (operation === "encode" && format.encode && (second === "-" || format.ignoresImportance)) {
    const x = floatsOf(bytesOf(first));
    const out = new Uint8Array((x.length / 32) * format.bytes);
    blocksOf(out, format.bytes).forEach((block, i) => format.encode(x.slice(32 * i, 32 * i + 32), block));
    return Buffer.from(out);
  }
  return null;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [operation, name, first, second, more] = line.split(" ");
  const rows = more?.startsWith("rows=") ? Number(more.slice(5)) : 1;
  if (operation === "hello") {
    console.log(`ok example kernels in JavaScript, node ${process.version}`);
  } else {
    const bytes = name in FORMATS ? answer(operation, FORMATS[name], first, second, rows) : null;
    console.log(bytes === null ? "no" : `ok ${bytes.toString("hex")}`);
  }
}
