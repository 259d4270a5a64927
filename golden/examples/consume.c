/* A complete consumer of the golden vectors in C, without a JSON library: decodes Q4_0, Q8_0, Q4_K and IQ3_S.
 *
 *     cc -O2 -o consume golden/examples/consume.c -lm && ./consume golden/llama.cpp
 *
 * Exit code 0: all bits agree; 1: some do not; 2: a file cannot be read.
 *
 * Instead of parsing JSON it scans: every test begins with its "id", and the values that a decoder needs are strings
 * without escapes. So the next "blocks" and the next "expected" after an "id" belong to that test.
 */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hifi_ref.h"

/* THE IMPLEMENTATION UNDER TEST */

static float f16(const uint8_t *p) {
    int half = p[0] | p[1] << 8, exponent = half >> 10 & 31, fraction = half & 0x3FF;
    float value = exponent == 31 ? (fraction ? NAN : INFINITY)
                  : exponent == 0 ? ldexpf((float)fraction, -24)
                                  : ldexpf((float)(fraction + 1024), exponent - 25);
    return half & 0x8000 ? -value : value;
}

static void decode_q4_0(const uint8_t *block, float *out) {
    float d = f16(block);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)((block[2 + j] & 15) - 8);
        out[j + 16] = d * (float)((block[2 + j] >> 4) - 8);
    }
}

static void decode_q8_0(const uint8_t *block, float *out) {
    float d = f16(block);
    for (int j = 0; j < 32; j++) out[j] = d * (float)(int8_t)block[2 + j];
}

static void decode_q4_k(const uint8_t *block, float *out) {
    float d = f16(block), dmin = f16(block + 2);
    const uint8_t *packed = block + 4, *qs = block + 16;
    for (int s = 0; s < 8; s++) {
        int scale = s < 4 ? packed[s] & 63 : (packed[s + 4] & 15) | packed[s - 4] >> 6 << 4;
        int minimum = s < 4 ? packed[s + 4] & 63 : packed[s + 4] >> 4 | packed[s] >> 6 << 4;
        for (int j = 0; j < 32; j++) {
            int byte = qs[32 * (s / 2) + j], code = s % 2 ? byte >> 4 : byte & 15;
            /* Exact products, so that it does not matter whether a compiler fuses them with the difference. */
            out[32 * s + j] = d * (float)scale * (float)code - dmin * (float)minimum;
        }
    }
}

/* The struct lies over the bytes as they are, which takes a little-endian machine. */
static void decode_iq3_s(const uint8_t *bytes, float *out) {
    hifi_block_iq3_s block;
    memcpy(&block, bytes, sizeof block);
    float d = f16(bytes);
    for (int g = 0; g < 32; g++) {
        int scale = block.scales[g / 8] >> (g / 4 % 2 * 4) & 15;
        for (int half = 0; half < 2; half++) {
            int number = 2 * g + half;
            const int8_t *row = hifi_iq3s_grid[block.qs[number] | (block.qh[number / 8] >> number % 8 & 1) << 8];
            for (int j = 0; j < 4; j++) {
                float magnitude = d * (float)(2 * scale + 1) * row[j];
                out[4 * number + j] = block.signs[g] >> (4 * half + j) & 1 ? -magnitude : magnitude;
            }
        }
    }
}

static const struct decoder {
    const char *name;
    int block_size, type_size;
    void (*decode)(const uint8_t *block, float *out);
} DECODERS[] = {
    {"Q4_0", 32, sizeof(hifi_block_q4_0), decode_q4_0},
    {"Q8_0", 32, sizeof(hifi_block_q8_0), decode_q8_0},
    {"Q4_K", 256, sizeof(hifi_block_q4_k), decode_q4_k},
    {"IQ3_S", 256, sizeof(hifi_block_iq3_s), decode_iq3_s},
};

/* THE SCAN */

static char *read_file(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.decode.json", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        fprintf(stderr, "consume: %s cannot be read\n", path);
        exit(2);
    }
    long size = ftell(file);
    char *text = calloc((size_t)size + 1, 1);
    rewind(file);
    if (!text || fread(text, 1, (size_t)size, file) != (size_t)size) {
        fprintf(stderr, "consume: %s cannot be read\n", path);
        exit(2);
    }
    fclose(file);
    return text;
}

/* The text of the next string that has this key, or NULL. */
static const char *next_string(const char *text, const char *key) {
    char pattern[32];
    snprintf(pattern, sizeof pattern, "\"%s\": \"", key);
    const char *found = strstr(text, pattern);
    return found ? found + strlen(pattern) : NULL;
}

/* Hexadecimal digits up to the closing quote -> bytes; returns how many. */
static size_t unhex(const char *text, uint8_t *bytes) {
    size_t n = 0;
    for (unsigned value; text[2 * n] != '"' && sscanf(text + 2 * n, "%2x", &value) == 1; n++) bytes[n] = (uint8_t)value;
    return n;
}

/* THE CONFORMANCE TEST */

static int same(float value, const uint8_t *expected) {
    uint32_t bits = expected[0] | expected[1] << 8 | expected[2] << 16 | (uint32_t)expected[3] << 24, observed;
    memcpy(&observed, &value, 4);
    int nan_expected = (bits & 0x7FFFFFFF) > 0x7F800000;
    return observed == bits || (nan_expected && value != value);
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "golden/llama.cpp";
    static uint8_t blocks[1 << 16], expected[1 << 20];
    static float out[256];
    int bad = 0;
    for (size_t k = 0; k < sizeof DECODERS / sizeof *DECODERS; k++) {
        const struct decoder *d = &DECODERS[k];
        char *text = read_file(folder, d->name);
        int count = 0, agree = 0;
        for (const char *id = next_string(text, "id"); id; id = next_string(id, "id"), count++) {
            size_t n = unhex(next_string(id, "blocks"), blocks) / (size_t)d->type_size, wrong = 0;
            size_t wanted = unhex(next_string(id, "expected"), expected);
            for (size_t i = 0; i < n; i++) {
                d->decode(blocks + i * (size_t)d->type_size, out);
                for (int j = 0; j < d->block_size; j++) {
                    wrong += !same(out[j], expected + 4 * (i * (size_t)d->block_size + (size_t)j));
                }
            }
            if (wanted == 4 * n * (size_t)d->block_size && n > 0 && wrong == 0) {
                agree++;
            } else {
                printf("  %s test %.16s: %zu weights differ\n", d->name, id, wrong);
            }
        }
        printf("%s decode: %d of %d tests agree\n", d->name, agree, count);
        bad += count - agree + (count == 0);
        free(text);
    }
    return bad ? 1 : 0;
}
