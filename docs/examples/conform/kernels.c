/* An implementation of Q4_0 and Q8_0, and a decoder of IQ2_XXS, in C that hifi_ref.conform can judge:

       cc -O2 -ffp-contract=off -Igolden -o kernels docs/examples/conform/kernels.c -lm
       python -m hifi_ref.conform exec:./kernels

   It reads a question a line from stdin and writes an answer a line to stdout. Replace decode, encode and dot by your own;
   what is not offered is answered with "no". The program assumes a little-endian machine. */

#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hifi_ref.h"

enum { VALUES = 32, Q8_0_BYTES = sizeof(hifi_block_q8_0) };

/* BINARY16 */

static float widen(const uint8_t *half) {
  int bits = half[0] | half[1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
  float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                    : exponent     ? ldexpf(1024 + fraction, exponent - 25)
                                   : ldexpf(fraction, -24);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/* To nearest, ties to even: adding and subtracting a power of two leaves as many bits as a binary16 has there. */
static void narrow(float value, uint8_t *half) {
  float magnitude = fabsf(value);
  int exponent = 0, bits = signbit(value) ? 0x8000 : 0;
  if (isnan(value)) {
    bits |= 0x7e00;
  } else if (magnitude >= 65520) {
    bits |= 0x7c00;
  } else {
    frexpf(magnitude, &exponent);
    int unit = magnitude == 0 || exponent < -13 ? -24 : exponent - 11;
    int steps = (int)rintf(ldexpf(magnitude, -unit));
    /* Subnormal numbers have the exponent of the smallest normal ones; a carry runs on into the exponent. */
    bits |= ((unit + 24) << 10) + steps;
  }
  half[0] = bits & 255;
  half[1] = bits >> 8;
}

/* Q4_0: a scale, then 32 codes: the first 16 in low nibbles, the others in high ones. */

static void q4_0_decode(const uint8_t *block, float *values) {
  float d = widen(block);
  for (int j = 0; j < 16; j++) {
    values[j] = ((block[2 + j] & 15) - 8) * d;
    values[j + 16] = ((block[2 + j] >> 4) - 8) * d;
  }
}

static int q4_0_code(float value, float inverse) {
  float shifted = value * inverse + 8.5f;
  /* Where the inverse overflows C leaves the conversion open. */
  int code = isfinite(shifted) ? (int)shifted : 0;
  return code > 15 ? 15 : code;
}

static void q4_0_encode(const float *values, uint8_t *block) {
  float extreme = 0, largest = 0;
  for (int j = 0; j < VALUES; j++) {
    if (largest < fabsf(values[j])) {
      largest = fabsf(values[j]);
      extreme = values[j];
    }
  }
  float d = extreme / -8, inverse = d ? 1 / d : 0;
  narrow(d, block);
  for (int j = 0; j < 16; j++) {
    block[2 + j] = q4_0_code(values[j], inverse) | q4_0_code(values[j + 16], inverse) << 4;
  }
}

/* Q8_0: a scale, then 32 signed codes. */

static void q8_0_decode(const uint8_t *block, float *values) {
  for (int j = 0; j < VALUES; j++) values[j] = (int8_t)block[2 + j] * widen(block);
}

static void q8_0_encode(const float *values, uint8_t *block) {
  float largest = 0;
  for (int j = 0; j < VALUES; j++) largest = fmaxf(largest, fabsf(values[j]));
  float d = largest / 127, inverse = d ? 1 / d : 0;
  narrow(d, block);
  for (int j = 0; j < VALUES; j++) {
    float code = roundf(values[j] * inverse);
    block[2 + j] = isfinite(code) ? (uint8_t)(int8_t)code : 0;
  }
}

/* IQ2_XXS: 256 weights; for each 32 of them four numbers of rows of a grid, four sign codes and a scale. */

static void iq2_xxs_decode(const uint8_t *bytes, float *values) {
  hifi_block_iq2_xxs block;
  memcpy(&block, bytes, sizeof block);
  for (int s = 0; s < 8; s++) {
    const uint16_t *run = block.qs + 4 * s;
    uint32_t word = run[2] | (uint32_t)run[3] << 16;
    float scale = widen(bytes) * (2 * (word >> 28) + 1) / 8;
    for (int g = 0; g < 4; g++) {
      const int8_t *row = hifi_iq2xxs_grid[run[g / 2] >> 8 * (g % 2) & 255];
      uint8_t signs = hifi_ksigns_iq2xs[word >> 7 * g & 127];
      for (int j = 0; j < 8; j++) *values++ = (signs >> j & 1 ? -scale : scale) * row[j];
    }
  }
}

/* Dot products of one block with a block of Q8_0: exact integers, then two multiplications in the reference's order. */

static float q4_0_dot(const uint8_t *w, const uint8_t *a) {
  int sum = 0;
  for (int j = 0; j < 16; j++) {
    sum += ((w[2 + j] & 15) - 8) * (int8_t)a[2 + j] + ((w[2 + j] >> 4) - 8) * (int8_t)a[18 + j];
  }
  return sum * widen(w) * widen(a);
}

static float q8_0_dot(const uint8_t *w, const uint8_t *a) {
  int sum = 0;
  for (int j = 0; j < VALUES; j++) sum += (int8_t)w[2 + j] * (int8_t)a[2 + j];
  return sum * (widen(w) * widen(a));
}

/* THE LINE PROTOCOL */

/* Bytes of a word of hexadecimal digits, to be freed. */
static uint8_t *bytes_of(const char *word, size_t *size) {
  *size = strlen(word) / 2;
  uint8_t *bytes = malloc(*size + 1);
  for (size_t i = 0; i < *size; i++) {
    unsigned byte = 0;
    sscanf(word + 2 * i, "%2x", &byte);
    bytes[i] = byte;
  }
  return bytes;
}

static void answer(const void *bytes, size_t size) {
  fputs("ok ", stdout);
  for (size_t i = 0; i < size; i++) printf("%02x", ((const uint8_t *)bytes)[i]);
  puts("");
}

static const struct format {
  const char *name;
  size_t values, bytes;
  void (*decode)(const uint8_t *block, float *values);
  void (*encode)(const float *values, uint8_t *block);
  float (*dot)(const uint8_t *w, const uint8_t *a);
  /* Q4_0 would search its scale by importance, which is not offered here; Q8_0 has no use for it. */
  int ignores_importance;
} FORMATS[] = {
  {"Q4_0", VALUES, sizeof(hifi_block_q4_0), q4_0_decode, q4_0_encode, q4_0_dot, 0},
  {"Q8_0", VALUES, sizeof(hifi_block_q8_0), q8_0_decode, q8_0_encode, q8_0_dot, 1},
  {"IQ2_XXS", 256, sizeof(hifi_block_iq2_xxs), iq2_xxs_decode, NULL, NULL, 0},
};

static void work(const struct format *f, const char *operation, const char *first, const char *second, int rows) {
  size_t size, other_size = 0;
  uint8_t *given = bytes_of(first, &size), *other = second ? bytes_of(second, &other_size) : NULL;
  if (!strcmp(operation, "decode")) {
    size_t blocks = size / f->bytes;
    float *values = malloc(blocks * f->values * sizeof *values);
    for (size_t i = 0; i < blocks; i++) f->decode(given + i * f->bytes, values + i * f->values);
    answer(values, blocks * f->values * sizeof *values);
    free(values);
  } else if (!strcmp(operation, "encode") && f->encode && (f->ignores_importance || !strcmp(second, "-"))) {
    size_t blocks = size / sizeof(float) / VALUES;
    uint8_t *out = malloc(blocks * f->bytes);
    for (size_t i = 0; i < blocks; i++) {
      float values[VALUES];
      memcpy(values, given + i * sizeof values, sizeof values);
      f->encode(values, out + i * f->bytes);
    }
    answer(out, blocks * f->bytes);
    free(out);
  } else if (!strcmp(operation, "dot") && f->dot) {
    /* Several rows, one after another, with the same activations. */
    size_t blocks = size / f->bytes / rows;
    float *sums = calloc(rows, sizeof *sums);
    for (size_t i = 0; i < blocks * rows; i++) {
      sums[i / blocks] += f->dot(given + i * f->bytes, other + i % blocks * Q8_0_BYTES);
    }
    answer(sums, rows * sizeof *sums);
    free(sums);
  } else {
    puts("no");
  }
  free(given);
  free(other);
}

int main(void) {
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, stdin) > 0) {
    char *operation = strtok(line, " \n"), *format = strtok(NULL, " \n");
    char *first = strtok(NULL, " \n"), *second = strtok(NULL, " \n"), *more = strtok(NULL, " \n");
    int rows = more && !strncmp(more, "rows=", 5) ? atoi(more + 5) : 1;
    const struct format *f = FORMATS, *end = FORMATS + sizeof FORMATS / sizeof *FORMATS;
    while (f < end && format && strcmp(format, f->name)) f++;
    if (operation && !strcmp(operation, "hello")) {
      puts("ok example kernels in C");
    } else if (first && f < end) {
      work(f, operation, first, second, rows);
    } else {
      puts("no");
    }
    fflush(stdout);
  }
  free(line);
  return 0;
}
