/* llama3pure's C engine as a library for llama3pure_c.py, from a checkout of https://github.com/lrusso/llama3pure:

       cc -O3 -shared -fPIC -ICHECKOUT -o libllama3pure.so docs/adapters/llama3pure_c.c -lm -lpthread */

#define main engine_main
#include "llama3pure-c-engine.c"

__attribute__((constructor)) static void begin(void) { init_fp16_table(); }

void adapter_encode_q8_0(const float *x, void *blocks, int n) { quantize_row_q8_0(x, blocks, n); }

float *adapter_decode(const void *blocks, int n, int type) { return dequantize_tensor(blocks, n, type); }

/* 0 where it has no dot product of that type. */
int adapter_dot(const void *w, const void *a, int n, int type, float *sum) {
  vec_dot_q8_func dot = get_vec_dot_q8_func(type);
  if (dot) *sum = dot(a, w, n);
  return dot != NULL;
}
