/* A folder of ggml's shared libraries behind the line protocol of hifi_ref.conform, for a machine without Python or under
   an emulator. Another processor's build of a release is judged so:

       aarch64-linux-gnu-gcc -O2 -o ggml_driver ggml_driver.c -ldl
       python -m hifi_ref.conform "exec:qemu-aarch64 -L /usr/aarch64-linux-gnu ggml_driver DIR base armv8.0_1"
       python -m hifi_ref.conform "exec:qemu-aarch64 -L /usr/aarch64-linux-gnu ggml_driver DIR armv8.0_1"

   base stands for libggml-base, with the generic dot products of libggml-cpu-VARIANT; VARIANT alone for what that library
   has itself. The program assumes a little-endian machine. */

#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { TYPES = 64 };

static void *base, *cpu;
static bool is_base;

static void *open_library(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/lib%s.so", folder, name);
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    fprintf(stderr, "error: %s\n", dlerror());
    exit(1);
  }
  return library;
}

static void *symbol(void *library, const char *before, const char *name, const char *after) {
  char text[256];
  snprintf(text, sizeof text, "%s%s%s", before, name, after);
  return library ? dlsym(library, text) : NULL;
}

/* The library's own number and spelling of a format. */
static int type_of(const char *format, const char **spelled) {
  const char *(*type_name)(int) = dlsym(base, "ggml_type_name");
  for (int type = 0; type < TYPES; type++) {
    if ((*spelled = type_name(type)) && !strcasecmp(*spelled, format)) return type;
  }
  return -1;
}

/* Bytes of a word of hexadecimal digits, NULL for "-". They start at an even address, and others follow the last. */
static uint8_t *bytes_of(const char *word, size_t *size) {
  if (!word || !strcmp(word, "-")) return NULL;
  *size = strlen(word) / 2;
  uint8_t *bytes = calloc(*size + 64, 1);
  for (size_t i = 0; i < *size; i++) {
    int high = tolower(word[2 * i]), low = tolower(word[2 * i + 1]);
    bytes[i] = (isdigit(high) ? high - '0' : high - 'a' + 10) << 4 | (isdigit(low) ? low - '0' : low - 'a' + 10);
  }
  return bytes;
}

static void answer(const void *bytes, size_t size) {
  fputs("ok ", stdout);
  for (size_t i = 0; i < size; i++) printf("%02x", ((const uint8_t *)bytes)[i]);
  puts("");
}

static bool decode(const char *name, int64_t n, const uint8_t *blocks) {
  void (*function)(const void *, float *, int64_t) = NULL;
  if (!strcmp(name, "f16") || !strcmp(name, "bf16")) {
    const char *kind = !strcmp(name, "f16") ? "fp16" : "bf16";
    function = is_base ? symbol(base, "ggml_", kind, "_to_fp32_row") : symbol(cpu, "ggml_cpu_", kind, "_to_fp32");
  } else if (is_base) {
    function = symbol(base, "dequantize_row_", name, "");
  }
  if (!function) return false;
  float *values = malloc(n * sizeof *values + 64);
  function(blocks, values, n);
  answer(values, n * sizeof *values);
  free(values);
  return true;
}

static bool encode(const char *name, int type, int rows, int64_t n, size_t bytes, const float *x, const float *importance) {
  uint8_t *out = calloc(bytes + 64, 1);
  bool offered = true;
  if (is_base && strcmp(name, "q8_1") && strcmp(name, "q8_K")) {
    void (*init)(int) = dlsym(base, "ggml_quantize_init");
    size_t (*chunk)(int, const float *, void *, int64_t, int64_t, int64_t, const float *) =
        dlsym(base, "ggml_quantize_chunk");
    init(type);
    chunk(type, x, out, 0, rows, n, importance);
  } else {
    void (*function)(const float *, void *, int64_t) = NULL;
    if (is_base) {
      function = symbol(base, "quantize_row_", name, "_ref");
    } else if (!importance) {
      bool is_float = !strcmp(name, "f16") || !strcmp(name, "bf16") || !strcmp(name, "f32");
      const char *kind = !strcmp(name, "f16") ? "fp16" : !strcmp(name, "f32") ? "fp32" : "bf16";
      function = is_float ? symbol(cpu, "ggml_cpu_fp32_to_", kind, "") : symbol(cpu, "quantize_row_", name, "");
    }
    offered = function != NULL;
    for (int row = 0; offered && row < rows; row++) function(x + row * n, out + bytes / rows * row, n);
  }
  if (offered) answer(out, bytes);
  free(out);
  return offered;
}

static bool dot(const char *name, int rows, int n, size_t row_bytes, const uint8_t *w, const uint8_t *a) {
  static const char *partners[] = {"_q8_0", "_q8_1", "_q8_K", ""};
  void (*function)(int, float *, size_t, const void *, size_t, const void *, size_t, int) = NULL;
  for (int i = 0; i < 4 && !function; i++) {
    char full[64];
    snprintf(full, sizeof full, "%s%s", name, partners[i]);
    /* Where a format has no SIMD kernel at all, the plain name is the generic one. */
    if (is_base) function = symbol(cpu, "ggml_vec_dot_", full, "_generic");
    if (!function) function = symbol(cpu, "ggml_vec_dot_", full, "");
  }
  if (!function) return false;
  float *sums = calloc(rows, sizeof *sums);
  for (int row = 0; row < rows; row++) function(n, sums + row, 0, w + row * row_bytes, 0, a, 0, 1);
  answer(sums, rows * sizeof *sums);
  free(sums);
  return true;
}

static bool work(const char *operation, const char *format, const char *first, const char *second, int rows) {
  const char *name;
  int type = type_of(format, &name);
  if (type < 0) return false;
  int64_t (*block_size)(int) = dlsym(base, "ggml_blck_size");
  size_t (*type_size)(int) = dlsym(base, "ggml_type_size");
  size_t size = 0, other_size = 0;
  uint8_t *given = bytes_of(first, &size), *other = bytes_of(second, &other_size);
  bool encodes = !strcmp(operation, "encode");
  int64_t blocks = encodes ? size / 4 / block_size(type) : size / type_size(type), n = blocks * block_size(type);
  size_t bytes = blocks * type_size(type);
  bool offered = encodes ? encode(name, type, rows, n / rows, bytes, (float *)given, (float *)other)
                 : !strcmp(operation, "decode") ? decode(name, n, given)
                                                : dot(name, rows, n / rows, bytes / rows, given, other);
  free(given);
  free(other);
  return offered;
}

int main(int count, char **words) {
  if (count < 3 || count > 4) {
    fprintf(stderr, "usage: ggml_driver DIR base [VARIANT] | ggml_driver DIR VARIANT\n");
    return 2;
  }
  base = open_library(words[1], "ggml-base");
  is_base = !strcmp(words[2], "base");
  const char *variant = is_base ? (count == 4 ? words[3] : NULL) : words[2];
  if (variant) {
    char name[256];
    snprintf(name, sizeof name, "ggml-cpu-%s", variant);
    cpu = open_library(words[1], name);
    void (*init)(void) = dlsym(cpu, "ggml_cpu_init");
    init();
  }
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, stdin) > 0) {
    char *operation = strtok(line, " \n"), *format = strtok(NULL, " \n");
    char *first = strtok(NULL, " \n"), *second = strtok(NULL, " \n"), *more = strtok(NULL, " \n");
    int rows = more && !strncmp(more, "rows=", 5) ? atoi(more + 5) : 1;
    if (operation && !strcmp(operation, "hello")) {
      printf("ok libggml-%s%s%s\n", is_base ? "base" : "cpu-", is_base && variant ? ", dots of " : "", variant ? variant : "");
    } else if (!first || !work(operation, format, first, second, rows)) {
      puts("no");
    }
    fflush(stdout);
  }
  free(line);
  return 0;
}
