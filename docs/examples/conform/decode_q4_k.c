/* The least that hifi_ref.conform can judge: one decoder, behind the line protocol. docs/porting.md goes through it.

       cc -O2 -Igolden -o decode_q4_k docs/examples/conform/decode_q4_k.c
       python -m hifi_ref.conform exec:./decode_q4_k --formats=Q4_K

   It assumes a little-endian machine, and a compiler that knows _Float16. */

#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hifi_ref.h"

static float widen(hifi_f16 bits) {
  _Float16 half;
  memcpy(&half, &bits, sizeof half);
  return half;
}

static void decode(const hifi_block_q4_k *block, float *w) {
  const uint8_t *p = block->scales;
  for (int s = 0; s < 8; s++) {
    int scale = s < 4 ? p[s] & 63 : (p[s + 4] & 15) | p[s - 4] >> 6 << 4;
    int min = s < 4 ? p[s + 4] & 63 : p[s + 4] >> 4 | p[s] >> 6 << 4;
    for (int j = 0; j < 32; j++) {
      int byte = block->qs[32 * (s / 2) + j], code = s % 2 ? byte >> 4 : byte & 15;
      *w++ = widen(block->d) * scale * code - widen(block->dmin) * min;
    }
  }
}

/* Blocks in hexadecimal: decodes them, and prints the bytes of their weights. */
static void answer(const char *hex) {
  hifi_block_q4_k block;
  uint8_t bytes[sizeof block];
  float w[256];
  fputs("ok ", stdout);
  for (; strlen(hex) >= 2 * sizeof bytes; hex += 2 * sizeof bytes) {
    for (size_t i = 0; i < sizeof bytes; i++) sscanf(hex + 2 * i, "%2hhx", &bytes[i]);
    memcpy(&block, bytes, sizeof block);
    decode(&block, w);
    for (size_t i = 0; i < sizeof w; i++) printf("%02x", ((uint8_t *)w)[i]);
  }
  puts("");
}

int main(void) {
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, stdin) > 0) {
    char *operation = strtok(line, " \n"), *format = strtok(NULL, " \n"), *blocks = strtok(NULL, " \n");
    if (operation && !strcmp(operation, "hello")) {
      puts("ok my decoder");
    } else if (blocks && !strcmp(operation, "decode") && !strcmp(format, "Q4_K")) {
      answer(blocks);
    } else {
      puts("no");
    }
    fflush(stdout);
  }
  free(line);
  return 0;
}
