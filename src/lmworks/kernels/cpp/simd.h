// Vectors of sixteen 4-byte lanes, in the widest instructions that the library is compiled for. Kernels are written
// once over these names:
//
//   Floats   16 float32
//   Ints     16 int32
//   Lanes    16 lanes of 4 bytes as memory has them: four 8-bit integers, a pair of bfloat16, or one float32 in each
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include "simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "simd_avx2.h"
#else
#include "simd_portable.h"
#endif

namespace lmworks {

// While it lives, this thread's results that are smaller than normal numbers become 0. Weights near e^-87 times small
// gradients are, and each product with one takes an x86 processor a hundred cycles.
class FlushSubnormals {
#if defined(__SSE__)
 public:
  FlushSubnormals() { _mm_setcsr(before_ | 0x8040); }  // flush to zero, and read as zero
  ~FlushSubnormals() { _mm_setcsr(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;

 private:
  const unsigned before_ = _mm_getcsr();
#else
 public:
  FlushSubnormals() {}
#endif
};

}  // namespace lmworks
