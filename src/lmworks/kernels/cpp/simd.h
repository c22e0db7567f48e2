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

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include "simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "simd_avx2.h"
#else
#include "simd_portable.h"
#endif
