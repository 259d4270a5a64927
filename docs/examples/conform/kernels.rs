// An implementation of Q4_0 and Q8_0, and a decoder of IQ2_XXS, in Rust that hifi_ref.conform can judge:
//
//     rustc -O --edition=2021 -o kernels docs/examples/conform/kernels.rs
//     python -m hifi_ref.conform exec:./kernels
//
// It reads a question a line from stdin and writes an answer a line to stdout. Replace FORMATS by your own; what is not
// offered is answered with "no". The grid and the sign codes are those of golden/grids.json, read when it is compiled in.

use std::io::{self, BufRead, Write};
use std::sync::LazyLock;

static GRIDS: &str = include_str!("../../../golden/grids.json");
static GRID: LazyLock<Vec<i32>> = LazyLock::new(|| table(&["\"grids\"", "\"IQ2_XXS\"", "\"table\""]));
static SIGNS: LazyLock<Vec<i32>> = LazyLock::new(|| table(&["\"signs\"", "\"table\""]));

/// All numbers of the list that follows these keys, one after another. No strings stand in such a list.
fn table(keys: &[&str]) -> Vec<i32> {
    let text = keys.iter().fold(GRIDS, |text, key| &text[text.find(key).expect(key) + key.len()..]);
    let mut depth = 0;
    let end = text.find(|c| {
        depth += (c == '[') as i32 - (c == ']') as i32;
        c == ']' && depth == 0
    });
    let list = &text[..end.expect("the end of a list")];
    list.split(|c: char| !c.is_ascii_digit() && c != '-').filter_map(|word| word.parse().ok()).collect()
}

// BINARY16

fn widen(half: &[u8]) -> f32 {
    let bits = u16::from_le_bytes([half[0], half[1]]);
    let (exponent, fraction) = ((bits >> 10 & 31) as i32, (bits & 1023) as f32);
    let magnitude = match exponent {
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        0 => fraction * 2f32.powi(-24),
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits & 0x8000 != 0 { -magnitude } else { magnitude }
}

/// To nearest, ties to even.
fn narrow(value: f32) -> [u8; 2] {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = value.abs() as f64;
    let bits = if value.is_nan() {
        0x7e00
    } else if magnitude >= 65520.0 {
        0x7c00
    } else {
        // The exponent of the last place; subnormal numbers share that of the smallest normal ones.
        let unit = (-24..).find(|&unit| magnitude < 2f64.powi(unit + 11)).unwrap();
        // A carry runs on into the exponent.
        ((unit + 24) << 10) as u16 + (magnitude / 2f64.powi(unit)).round_ties_even() as u16
    };
    (sign | bits).to_le_bytes()
}

// Q4_0: a scale, then 32 codes: the first 16 in low nibbles, the others in high ones.

fn q4_0_code(block: &[u8], j: usize) -> i32 {
    (block[2 + j % 16] >> (4 * (j / 16)) & 15) as i32 - 8
}

fn q4_0_encode(x: &[f32]) -> Vec<u8> {
    let extreme = x.iter().fold(0f32, |best, &v| if best.abs() < v.abs() { v } else { best });
    let d = extreme / -8.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    // Where the inverse overflows C leaves the conversion open.
    let code = |v: f32| {
        let shifted = v * inverse + 8.5;
        if shifted.is_finite() { (shifted as i32).min(15) as u8 } else { 0 }
    };
    let codes = (0..16).map(|j| code(x[j]) | code(x[j + 16]) << 4);
    narrow(d).into_iter().chain(codes).collect()
}

fn q4_0_dot(w: &[u8], a: &[u8]) -> f32 {
    let sum: i32 = (0..32).map(|j| q4_0_code(w, j) * q8_0_code(a, j)).sum();
    sum as f32 * widen(w) * widen(a)
}

// Q8_0: a scale, then 32 signed codes.

fn q8_0_code(block: &[u8], j: usize) -> i32 {
    block[2 + j] as i8 as i32
}

fn q8_0_encode(x: &[f32]) -> Vec<u8> {
    let d = x.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    // round() takes halves away from zero.
    let code = |v: &f32| (v * inverse).round();
    let codes = x.iter().map(|v| if code(v).is_finite() { code(v) as i8 as u8 } else { 0 });
    narrow(d).into_iter().chain(codes).collect()
}

fn q8_0_dot(w: &[u8], a: &[u8]) -> f32 {
    let sum: i32 = (0..32).map(|j| q8_0_code(w, j) * q8_0_code(a, j)).sum();
    sum as f32 * (widen(w) * widen(a))
}

// IQ2_XXS: for each 32 weights four numbers of rows of a grid, then a word of four sign codes and a scale.

fn iq2_xxs_decode(block: &[u8]) -> Vec<f32> {
    let mut values = Vec::with_capacity(256);
    for run in block[2..].chunks(8) {
        let word = u32::from_le_bytes(run[4..].try_into().unwrap());
        let scale = widen(block) * (2 * (word >> 28) + 1) as f32 / 8.0;
        for g in 0..4 {
            let signs = SIGNS[(word >> (7 * g) & 127) as usize];
            let row = &GRID[8 * run[g] as usize..][..8];
            values.extend((0..8).map(|j| if signs >> j & 1 != 0 { -scale } else { scale } * row[j] as f32));
        }
    }
    values
}

// THE LINE PROTOCOL

struct Format {
    name: &'static str,
    bytes: usize,
    decode: fn(&[u8]) -> Vec<f32>,
    encode: Option<fn(&[f32]) -> Vec<u8>>,
    dot: Option<fn(&[u8], &[u8]) -> f32>,
    /// Q4_0 would search its scale by importance, which is not offered here; Q8_0 has no use for it.
    ignores_importance: bool,
}

static FORMATS: [Format; 3] = [
    Format {
        name: "Q4_0", bytes: 18, encode: Some(q4_0_encode), dot: Some(q4_0_dot), ignores_importance: false,
        decode: |block| (0..32).map(|j| q4_0_code(block, j) as f32 * widen(block)).collect(),
    },
    Format {
        name: "Q8_0", bytes: 34, encode: Some(q8_0_encode), dot: Some(q8_0_dot), ignores_importance: true,
        decode: |block| (0..32).map(|j| q8_0_code(block, j) as f32 * widen(block)).collect(),
    },
    Format {
        name: "IQ2_XXS", bytes: 66, decode: iq2_xxs_decode, encode: None, dot: None, ignores_importance: false,
    },
];

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn answer(f: &Format, operation: &str, first: &str, second: &str, rows: usize) -> Option<Vec<u8>> {
    let given = unhex(first);
    match operation {
        "decode" => Some(bytes_of(&given.chunks(f.bytes).flat_map(f.decode).collect::<Vec<f32>>())),
        "encode" if second == "-" || f.ignores_importance => {
            let x: Vec<f32> = given.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            Some(x.chunks(32).flat_map(f.encode?).collect())
        }
        "dot" => {
            let (dot, a) = (f.dot?, unhex(second));
            // Several rows, one after another, with the same activations.
            let sums = given.chunks(given.len() / rows).map(|row| {
                row.chunks(f.bytes).zip(a.chunks(34)).fold(0f32, |sum, (w, a)| sum + dot(w, a))
            });
            Some(bytes_of(&sums.collect::<Vec<f32>>()))
        }
        _ => None,
    }
}

fn main() {
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let rows = words.iter().find_map(|word| word.strip_prefix("rows=")?.parse().ok()).unwrap_or(1);
        let known = FORMATS.iter().find(|f| words.get(1) == Some(&f.name));
        let found = known.and_then(|f| answer(f, words[0], words[2], words.get(3).unwrap_or(&""), rows));
        match found {
            _ if words[0] == "hello" => println!("ok example kernels in Rust"),
            Some(bytes) => println!("ok {}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
            None => println!("no"),
        }
        io::stdout().flush().unwrap();
    }
}
