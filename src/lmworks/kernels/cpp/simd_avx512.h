// simd.h with AVX-512: one register is one vector. VNNI multiplies fours of bytes, BF16, where there is one, pairs.
#pragma once

#include <immintrin.h>

namespace lmworks {

using Floats = __m512;
using Ints = __m512i;
using Lanes = __m512i;

constexpr int kTileTokens = 6;     // 6 x 2 sums of integers and as many of floats leave 8 of the 32 registers
constexpr int kInt8Offset = 128;   // int8 weights are used as stored, q + 128: each sum begins at -128 times that of x

// ---- floats

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats broadcast(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }

inline __mmask16 first_lanes(int count) { return static_cast<__mmask16>((1u << count) - 1); }

// The first `count` of 16; the rest is 0.
inline Floats load_first(const float* from, int count) { return _mm512_maskz_loadu_ps(first_lanes(count), from); }
inline void store_first(float* to, Floats x, int count) { _mm512_mask_storeu_ps(to, first_lanes(count), x); }

// `x` in the lanes begin ... end - 1, `other` elsewhere.
inline Floats keep_lanes(Floats x, int begin, int end, Floats other) {
  return _mm512_mask_mov_ps(other, first_lanes(end) & ~first_lanes(begin), x);
}

inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats square_root(Floats x) { return _mm512_sqrt_ps(x); }
inline Floats absolute(Floats x) { return _mm512_abs_ps(x); }
inline Floats copy_sign(Floats magnitude, Floats sign) {
  const Ints bit = _mm512_set1_epi32(static_cast<int>(0x80000000));
  return _mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(bit, _mm512_castps_si512(sign), _mm512_castps_si512(magnitude), 0xca));
}
// A NaN in the second operand comes through, as the instruction is defined.
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats round_to_even(Floats x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// x times 2 to the power of the whole number n.
inline Floats times_power_of_two(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }
// One bit for each lane.
inline uint32_t at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
// `x` where a >= b, and 0.
inline Floats where_at_least(Floats a, Floats b, Floats x) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), x);
}
// The chosen lanes side by side; what lies behind them in the sixteen places is anything. (Sorted in a register first: to
// write them straight to memory takes some processors a hundred cycles.)
inline void store_lanes(float* to, Floats x, uint32_t lanes) {
  store(to, _mm512_maskz_compress_ps(static_cast<__mmask16>(lanes), x));
}
inline void store_int_lanes(int32_t* to, Ints x, uint32_t lanes) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), x));
}
inline float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
inline float largest_of(Floats x) { return _mm512_reduce_max_ps(x); }

// ---- other float formats

inline Floats load_half(const uint16_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline Floats load_bfloat16(const uint16_t* from) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16));
}

inline Floats even_of_pairs(Lanes pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
inline Floats odd_of_pairs(Lanes pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

#ifdef __AVX512BF16__
inline void store_bfloat16(uint16_t* to, Floats x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(x));
}
// Pairs of bfloat16: a lane of `even` is the first of its pair, one of `odd` the second.
inline void store_bfloat16_pairs(uint32_t* to, Floats even, Floats odd) {
  const Ints numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const Ints order = _mm512_or_si512(numbers, _mm512_slli_epi32(_mm512_add_epi32(numbers, _mm512_set1_epi32(16)), 16));
  _mm512_storeu_si512(to, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even)));
}
// sum + a.even * b.even + a.odd * b.odd
inline Floats dot_pairs(Floats sum, Lanes a, Lanes b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#else
inline Ints rounded_to_bfloat16(Floats x) {  // in the high half; to even: add half of the last place, and its own bit
  const Ints bits = _mm512_castps_si512(x);
  const Ints last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
}
inline void store_bfloat16(uint16_t* to, Floats x) {
  const Ints rounded = _mm512_srli_epi32(rounded_to_bfloat16(x), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(rounded));
}
inline void store_bfloat16_pairs(uint32_t* to, Floats even, Floats odd) {
  const Ints high = _mm512_and_si512(rounded_to_bfloat16(odd), _mm512_set1_epi32(static_cast<int>(0xffff0000)));
  _mm512_storeu_si512(to, _mm512_or_si512(_mm512_srli_epi32(rounded_to_bfloat16(even), 16), high));
}
inline Floats dot_pairs(Floats sum, Lanes a, Lanes b) {
  return multiply_add(odd_of_pairs(a), odd_of_pairs(b), multiply_add(even_of_pairs(a), even_of_pairs(b), sum));
}
#endif

// ---- integers

inline Ints int_zeros() { return _mm512_setzero_si512(); }
inline Ints broadcast_int(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints lane_numbers() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
inline Ints round_to_ints(Floats x) { return _mm512_cvtps_epi32(x); }
inline Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
inline int32_t sum_of_ints(Ints x) { return _mm512_reduce_add_epi32(x); }
inline Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline void store_int8(int8_t* to, Ints x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(x));
}
inline Ints load_int8(const int8_t* from) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// ---- lanes

inline Lanes load_lanes(const void* from) { return _mm512_loadu_si512(from); }
inline Lanes broadcast_lane(const void* from) {
  int32_t lane;
  std::memcpy(&lane, from, 4);
  return _mm512_set1_epi32(lane);
}
inline Floats lanes_as_floats(Lanes x) { return _mm512_castsi512_ps(x); }
inline void write_lanes(void* to, Lanes x) { _mm512_storeu_si512(to, x); }
// The first halves of both, a lane of one after a lane of the other; and the second halves.
inline Lanes zip_first(Lanes a, Lanes b) {
  const Ints order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  return _mm512_permutex2var_epi32(a, order, b);
}
inline Lanes zip_second(Lanes a, Lanes b) {
  const Ints order = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return _mm512_permutex2var_epi32(a, order, b);
}
inline Lanes low_nibbles(Lanes x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Lanes high_nibbles(Lanes x) { return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15)); }

// sum + the products of four unsigned 8-bit weights and four signed 8-bit activations, in each lane.
inline Ints dot_nibbles(Ints sum, Lanes weights, Lanes x) { return _mm512_dpbusd_epi32(sum, weights, x); }
inline Ints dot_int8(Ints sum, Lanes weights, Lanes x) { return _mm512_dpbusd_epi32(sum, weights, x); }

// Into the second-level cache: what is fetched ahead is more than the first one holds.
inline void prefetch(const void* address) { _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T1); }
inline void pause() { _mm_pause(); }

}  // namespace lmworks
