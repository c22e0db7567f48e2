// A library of its own: which set of instructions this processor and operating system can run.
#include "exports.h"

LMWORKS_EXPORT const char* lmworks_best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) return "avx512_bf16";
  if (avx512) return "avx512";
  if (avx2) return "avx2";
#endif
  return "portable";
}
