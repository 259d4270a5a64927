/* Has one llama.cpp quantize a file, for tests/quantize/builds.py: quantizing_driver LIBRARIES... SOURCE TARGET NUMBER.

   The libraries are loaded in their order, the last is libllama; NUMBER is the file type's. On stdin: a count of
   matrices that have importance, of each the lengths of its name and of its importance, as int64, then the name and the
   importance, binary32; a count of metadata to set, then each as llama_model_kv_override is laid out.

   Compiled as C it speaks to releases that take lists in C; as C++ to those of 2024, which took containers of C++. */

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __cplusplus
#include <string>
#include <unordered_map>
#include <vector>
#endif

struct params {
  int32_t threads;
  int file_type, output_type, embedding_type;
  bool allow_requantize, quantize_output, only_copy, pure, keep_split, dry_run;
  const void *importance, *keys, *types, *layers;
  size_t memory;
};
struct importance { const char *name; const float *values; size_t count; };
struct key { int tag; char name[128]; union { int64_t integer; char text[128]; } value; };

static void given(void *bytes, size_t size) {
  if (size && fread(bytes, size, 1, stdin) != 1) exit(2);
}

static int64_t number(void) {
  int64_t n;
  given(&n, sizeof n);
  return n;
}

int main(int count, char **words) {
  void *library = NULL;
  for (int i = 1; i < count - 3; i++) {
    library = dlopen(words[i], RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
      fprintf(stderr, "%s\n", dlerror());
      return 2;
    }
  }
  if (!library) return 2;
  int64_t rows = number();
  struct importance *list = (struct importance *)calloc(rows + 1, sizeof *list);
  for (int64_t i = 0; i < rows; i++) {
    int64_t length = number(), values = number();
    char *name = (char *)calloc(length + 1, 1);
    float *row = (float *)malloc(values * sizeof *row);
    given(name, length);
    given(row, values * sizeof *row);
    list[i].name = name, list[i].values = row, list[i].count = values;
  }
  int64_t set = number();
  struct key *keys = (struct key *)calloc(set + 1, sizeof *keys);
  given(keys, set * sizeof *keys);

  struct params (*defaults)(void) = (struct params (*)(void))dlsym(library, "llama_model_quantize_default_params");
  uint32_t (*quantize)(const char *, const char *, const struct params *) =
      (uint32_t (*)(const char *, const char *, const struct params *))dlsym(library, "llama_model_quantize");
  struct params p = defaults();
  p.threads = 1;
  p.file_type = atoi(words[count - 1]);
#ifdef __cplusplus
  std::unordered_map<std::string, std::vector<float>> map;
  for (int64_t i = 0; i < rows; i++) map[list[i].name].assign(list[i].values, list[i].values + list[i].count);
  std::vector<struct key> vector(keys, keys + set + 1);
  p.importance = rows ? &map : NULL;
  p.keys = set ? &vector : NULL;
#else
  p.importance = rows ? list : NULL;
  p.keys = set ? keys : NULL;
#endif
  return quantize(words[count - 3], words[count - 2], &p) != 0;
}
