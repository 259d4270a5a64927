/* Asks one library of ggml to quantize, for tools/profiles.py: binary questions on stdin, answers on stdout.

   A question is five int64 (type, rows, weights a row, bytes a row, whether importance follows), then the weights, then
   the importance of a row. The answer is the rows' blocks, then a byte for each row: 1 where it was written. A row that
   ends the process is left to a child to die of. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct init { size_t size; void *memory; bool no_alloc; };

static void *given(size_t size) {
  char *bytes = malloc(size + 64);
  for (size_t done = 0; done < size;) {
    ssize_t n = read(0, bytes + done, size - done);
    if (n <= 0) exit(0);
    done += n;
  }
  return bytes;
}

static void answer(const char *bytes, size_t size) {
  while (size) {
    ssize_t n = write(1, bytes, size);
    if (n <= 0) exit(1);
    bytes += n;
    size -= n;
  }
}

int main(int count, char **words) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  /* Older builds call the debugger, where they find one, for each row that ends them */
  setenv("PATH", "/nonexistent", 1);
  void *library = count == 2 ? dlopen(words[1], RTLD_NOW | RTLD_GLOBAL) : NULL;
  if (!library) {
    fprintf(stderr, "usage: profiles_driver LIBRARY, which must load\n");
    return 2;
  }
  /* Older builds have no table of binary16 until then */
  void *(*init)(struct init) = dlsym(library, "ggml_init");
  if (init) init((struct init){1 << 20, NULL, false});
  void (*prepare)(int) = dlsym(library, "ggml_quantize_init");
  size_t (*chunk)(int, const float *, void *, int64_t, int64_t, int64_t, const float *) =
      dlsym(library, "ggml_quantize_chunk");
  for (;;) {
    int64_t *head = given(5 * sizeof *head), rows = head[1], n = head[2], size = head[3];
    float *x = given(rows * n * sizeof *x), *importance = head[4] ? given(n * sizeof *importance) : NULL;
    prepare(head[0]);
    char *out = mmap(NULL, rows * (size + 1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int64_t first = 0; first < rows;) {
      pid_t child = fork();
      if (!child) {
        dup2(2, 1);
        for (int64_t row = first; row < rows; row++) {
          chunk(head[0], x + row * n, out + row * size, 0, 1, n, importance);
          out[rows * size + row] = 1;
        }
        _exit(0);
      }
      waitpid(child, NULL, 0);
      while (first < rows && out[rows * size + first]) first++;
      first += first < rows;
    }
    answer(out, rows * (size + 1));
    munmap(out, rows * (size + 1));
    free(importance);
    free(x);
    free(head);
  }
}
