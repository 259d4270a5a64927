// A complete consumer of the golden vectors in JavaScript: decodes Q4_0, Q8_0, Q4_K and IQ3_S.
//
//     node golden/examples/consume.js [FOLDER]
//
// FOLDER is golden/llama.cpp by default. Exit code 0: all bits agree; 1: some do not.

const fs = require("fs");
const path = require("path");

const GRIDS = JSON.parse(fs.readFileSync(path.join(__dirname, "..", "grids.json"), "utf8"));

// THE IMPLEMENTATION UNDER TEST. Numbers are binary64; writing to a Float32Array rounds to binary32.

function f16(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function decodeQ4_0(block, out) {
  const d = f16(block.readUInt16LE(0));
  for (let j = 0; j < 16; j++) {
    out[j] = d * ((block[2 + j] & 15) - 8);
    out[j + 16] = d * ((block[2 + j] >> 4) - 8);
  }
}

function decodeQ8_0(block, out) {
  const d = f16(block.readUInt16LE(0));
  for (let j = 0; j < 32; j++) out[j] = d * block.readInt8(2 + j);
}

function decodeQ4_K(block, out) {
  const d = f16(block.readUInt16LE(0));
  const dmin = f16(block.readUInt16LE(2));
  const packed = block.subarray(4, 16);
  for (let s = 0; s < 8; s++) {
    const late = s >= 4;
    const scale = late ? (packed[s + 4] & 15) | ((packed[s - 4] >> 6) << 4) : packed[s] & 63;
    const minimum = late ? (packed[s + 4] >> 4) | ((packed[s] >> 6) << 4) : packed[s + 4] & 63;
    for (let j = 0; j < 32; j++) {
      const byte = block[16 + 32 * (s >> 1) + j];
      const code = s % 2 ? byte >> 4 : byte & 15;
      // Both products are exact in binary32, so that the difference is the only rounding.
      out[32 * s + j] = d * scale * code - dmin * minimum;
    }
  }
}

// A number that is packed in a block, by the triples byte, shift, width of grids.json.
function number(block, entry) {
  let value = 0;
  for (let i = 0, at = 0; i < entry.length; at += entry[i + 2], i += 3) {
    value |= ((block[entry[i]] >> entry[i + 1]) & ((1 << entry[i + 2]) - 1)) << at;
  }
  return value;
}

function decodeIQ3_S(block, out) {
  const d = f16(block.readUInt16LE(0));
  const places = GRIDS.formats.IQ3_S.numbers;
  const magnitudes = places.row.flatMap((entry) => GRIDS.grids.IQ3_S.table[number(block, entry)]);
  for (let i = 0; i < 256; i++) {
    // A sign byte serves 8 weights, a scale 32.
    const minus = (number(block, places.sign[i >> 3]) >> (i & 7)) & 1;
    const unsigned = d * (2 * number(block, places.scale[i >> 5]) + 1) * magnitudes[i];
    out[i] = minus ? -unsigned : unsigned;
  }
}

const DECODERS = { Q4_0: decodeQ4_0, Q8_0: decodeQ8_0, Q4_K: decodeQ4_K, IQ3_S: decodeIQ3_S };

// THE CONFORMANCE TEST

function judge(content, decode) {
  const failed = [];
  let count = 0;
  for (const group of content.groups) {
    for (const test of group.tests) {
      count++;
      const blocks = Buffer.from(test.blocks, "hex");
      const expected = Buffer.from(test.expected, "hex");
      let wrong = 0;
      for (let i = 0; i * content.type_size < blocks.length; i++) {
        const out = new Float32Array(content.block_size);
        decode(blocks.subarray(i * content.type_size, (i + 1) * content.type_size), out);
        for (let j = 0; j < content.block_size; j++) {
          // Object.is tells -0 from +0, and takes any NaN for any other.
          if (!Object.is(out[j], expected.readFloatLE(4 * (i * content.block_size + j)))) wrong++;
        }
      }
      if (wrong) failed.push({ group: group.name, test, wrong });
    }
  }
  return { failed, count };
}

const folder = process.argv[2] || path.join(__dirname, "..", "llama.cpp");
let bad = 0;
for (const [name, decode] of Object.entries(DECODERS)) {
  const content = JSON.parse(fs.readFileSync(path.join(folder, `${name}.decode.json`), "utf8"));
  const { failed, count } = judge(content, decode);
  console.log(`${name} decode: ${count - failed.length} of ${count} tests agree`);
  for (const { group, test, wrong } of failed.slice(0, 3)) {
    console.log(`  test ${test.id} (${group}): ${wrong} weights differ`);
    for (const flag of test.flags) console.log(`    ${flag}: ${content.notes[flag].description}`);
  }
  bad += failed.length;
}
process.exit(bad ? 1 : 0);
