// simd.h with AVX2: two registers are one vector, 0 the lower eight lanes.
#pragma once

#include <immintrin.h>

namespace lmworks {

struct Floats {
  __m256 of[2];
};
struct Ints {
  __m256i of[2];
};
using Lanes = Ints;

constexpr int kTileTokens = 2;  // of 16 registers, 4 hold the integer sums of a row and as many its sums of floats
constexpr int kInt8Offset = 0;  // the 128 is taken off the weights themselves, see dot_int8

// ---- floats

template <class Half>
inline Floats halves(Half half) {
  return {half(0), half(1)};
}
template <class Half>
inline Ints int_halves(Half half) {
  return {half(0), half(1)};
}

inline Floats broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Floats zeros() { return broadcast(0); }
inline Floats load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline void store(float* to, Floats x) {
  _mm256_storeu_ps(to, x.of[0]);
  _mm256_storeu_ps(to + 8, x.of[1]);
}
inline Floats load_first(const float* from, int count) {
  alignas(32) float all[16] = {};
  std::memcpy(all, from, count * sizeof(float));
  return load(all);
}
inline void store_first(float* to, Floats x, int count) {
  alignas(32) float all[16];
  store(all, x);
  std::memcpy(to, all, count * sizeof(float));
}

inline Floats keep_lanes(Floats x, int begin, int end, Floats other) {
  const __m256i numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return halves([&](int i) {
    const __m256i lane = _mm256_add_epi32(numbers, _mm256_set1_epi32(8 * i));
    const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(begin), lane);
    const __m256i inside = _mm256_andnot_si256(before, _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane));
    return _mm256_blendv_ps(other.of[i], x.of[i], _mm256_castsi256_ps(inside));
  });
}

inline Floats add(Floats a, Floats b) {
  return halves([&](int i) { return _mm256_add_ps(a.of[i], b.of[i]); });
}
inline Floats subtract(Floats a, Floats b) {
  return halves([&](int i) { return _mm256_sub_ps(a.of[i], b.of[i]); });
}
inline Floats multiply(Floats a, Floats b) {
  return halves([&](int i) { return _mm256_mul_ps(a.of[i], b.of[i]); });
}
inline Floats divide(Floats a, Floats b) {
  return halves([&](int i) { return _mm256_div_ps(a.of[i], b.of[i]); });
}
inline Floats multiply_add(Floats a, Floats b, Floats c) {
  return halves([&](int i) { return _mm256_fmadd_ps(a.of[i], b.of[i], c.of[i]); });
}
inline Floats square_root(Floats x) {
  return halves([&](int i) { return _mm256_sqrt_ps(x.of[i]); });
}
inline __m256 sign_bits() { return _mm256_set1_ps(-0.0f); }
inline Floats absolute(Floats x) {
  return halves([&](int i) { return _mm256_andnot_ps(sign_bits(), x.of[i]); });
}
inline Floats copy_sign(Floats magnitude, Floats sign) {
  return halves([&](int i) {
    return _mm256_or_ps(_mm256_andnot_ps(sign_bits(), magnitude.of[i]), _mm256_and_ps(sign_bits(), sign.of[i]));
  });
}
// A NaN in the second operand comes through, as the instruction is defined.
inline Floats larger(Floats a, Floats b) {
  return halves([&](int i) { return _mm256_max_ps(a.of[i], b.of[i]); });
}
inline Floats smaller(Floats a, Floats b) {
  return halves([&](int i) { return _mm256_min_ps(a.of[i], b.of[i]); });
}
inline Floats round_to_even(Floats x) {
  return halves([&](int i) { return _mm256_round_ps(x.of[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); });
}
// x times 2 to the power of the whole number n, in -126 ... 127: n is put where a float has its exponent.
inline Floats times_power_of_two(Floats x, Floats n) {
  return halves([&](int i) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.of[i]), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x.of[i], _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  });
}

// One bit for each lane.
inline uint32_t at_least(Floats a, Floats b) {
  const auto bits = [&](int i) { return _mm256_movemask_ps(_mm256_cmp_ps(a.of[i], b.of[i], _CMP_GE_OQ)); };
  return static_cast<uint32_t>(bits(0) | bits(1) << 8);
}
// `x` where a >= b, and 0.
inline Floats where_at_least(Floats a, Floats b, Floats x) {
  return halves([&](int i) { return _mm256_and_ps(_mm256_cmp_ps(a.of[i], b.of[i], _CMP_GE_OQ), x.of[i]); });
}

// The chosen lanes side by side; what lies behind them in the sixteen places is anything.
template <class Number>
inline void store_chosen(Number* to, const Number* from, uint32_t lanes) {
  for (; lanes != 0; lanes &= lanes - 1) *to++ = from[__builtin_ctz(lanes)];
}
inline void store_lanes(float* to, Floats x, uint32_t lanes) {
  alignas(32) float all[16];
  store(all, x);
  store_chosen(to, all, lanes);
}
inline void store_int_lanes(int32_t* to, Ints x, uint32_t lanes) {
  alignas(32) int32_t all[16];
  for (int i = 0; i < 2; ++i) _mm256_store_si256(reinterpret_cast<__m256i*>(all) + i, x.of[i]);
  store_chosen(to, all, lanes);
}

// The eight lanes to one, by halves.
template <class Fold>
inline float fold(__m256 x, Fold fold_two) {
  __m128 four = fold_two(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = fold_two(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(fold_two(four, _mm_shuffle_ps(four, four, 1)));
}
inline float sum_of(Floats x) {
  return fold(_mm256_add_ps(x.of[0], x.of[1]), [](__m128 a, __m128 b) { return _mm_add_ps(a, b); });
}
inline float largest_of(Floats x) {
  return fold(_mm256_max_ps(x.of[0], x.of[1]), [](__m128 a, __m128 b) { return _mm_max_ps(a, b); });
}

// ---- other float formats

inline Floats load_half(const uint16_t* from) {
  const __m128i* eights = reinterpret_cast<const __m128i*>(from);
  return halves([&](int i) { return _mm256_cvtph_ps(_mm_loadu_si128(eights + i)); });
}
inline Floats load_bfloat16(const uint16_t* from) {
  const __m128i* eights = reinterpret_cast<const __m128i*>(from);
  return halves([&](int i) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(eights + i)), 16));
  });
}
inline Floats even_of_pairs(Lanes pairs) {
  return halves([&](int i) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs.of[i], 16)); });
}
inline Floats odd_of_pairs(Lanes pairs) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  return halves([&](int i) { return _mm256_castsi256_ps(_mm256_and_si256(pairs.of[i], upper)); });
}
inline Ints rounded_to_bfloat16(Floats x) {  // in the high half; to even: add half of the last place, and its own bit
  Ints rounded;
  for (int i = 0; i < 2; ++i) {
    const __m256i bits = _mm256_castps_si256(x.of[i]);
    const __m256i last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    rounded.of[i] = _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)));
  }
  return rounded;
}
inline void store_bfloat16(uint16_t* to, Floats x) {
  const Ints high = rounded_to_bfloat16(x);
  const __m256i rounded[] = {_mm256_srli_epi32(high.of[0], 16), _mm256_srli_epi32(high.of[1], 16)};
  // Packing works within halves of a register: put its quarters 0, 2, 1, 3 in order.
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded[0], rounded[1]), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), packed);
}
// Pairs of bfloat16: a lane of `even` is the first of its pair, one of `odd` the second.
inline void store_bfloat16_pairs(uint32_t* to, Floats even, Floats odd) {
  const Ints first = rounded_to_bfloat16(even), second = rounded_to_bfloat16(odd);
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  for (int i = 0; i < 2; ++i) {
    const __m256i pairs =
        _mm256_or_si256(_mm256_srli_epi32(first.of[i], 16), _mm256_and_si256(second.of[i], upper));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to) + i, pairs);
  }
}
inline Floats dot_pairs(Floats sum, Lanes a, Lanes b) {
  return multiply_add(odd_of_pairs(a), odd_of_pairs(b), multiply_add(even_of_pairs(a), even_of_pairs(b), sum));
}

// ---- integers

inline Ints broadcast_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Ints lane_numbers() {
  return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
inline Ints int_zeros() { return broadcast_int(0); }
inline Ints round_to_ints(Floats x) {
  return int_halves([&](int i) { return _mm256_cvtps_epi32(x.of[i]); });
}
inline Floats to_floats(Ints x) {
  return halves([&](int i) { return _mm256_cvtepi32_ps(x.of[i]); });
}
inline Ints add_ints(Ints a, Ints b) {
  return int_halves([&](int i) { return _mm256_add_epi32(a.of[i], b.of[i]); });
}
inline int32_t sum_of_ints(Ints x) {
  const __m256i eight = _mm256_add_epi32(x.of[0], x.of[1]);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}
inline void store_int8(int8_t* to, Ints x) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.of[0], x.of[1]), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
}
inline Ints load_int8(const int8_t* from) {
  return int_halves([&](int i) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8 * i)));
  });
}

// ---- lanes

inline Lanes load_lanes(const void* from) {
  return int_halves([&](int i) { return _mm256_loadu_si256(static_cast<const __m256i*>(from) + i); });
}
inline Lanes broadcast_lane(const void* from) {
  int32_t lane;
  std::memcpy(&lane, from, 4);
  return broadcast_int(lane);
}
inline Floats lanes_as_floats(Lanes x) {
  return halves([&](int i) { return _mm256_castsi256_ps(x.of[i]); });
}
inline void write_lanes(void* to, Lanes x) {
  for (int i = 0; i < 2; ++i) _mm256_storeu_si256(static_cast<__m256i*>(to) + i, x.of[i]);
}
inline Lanes zip_registers(__m256i a, __m256i b) {
  const __m256i low = _mm256_unpacklo_epi32(a, b), high = _mm256_unpackhi_epi32(a, b);  // within halves of a register
  return {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
}
// The first halves of both, a lane of one after a lane of the other; and the second halves.
inline Lanes zip_first(Lanes a, Lanes b) { return zip_registers(a.of[0], b.of[0]); }
inline Lanes zip_second(Lanes a, Lanes b) { return zip_registers(a.of[1], b.of[1]); }
inline Lanes low_nibbles(Lanes x) {
  return int_halves([&](int i) { return _mm256_and_si256(x.of[i], _mm256_set1_epi8(15)); });
}
inline Lanes high_nibbles(Lanes x) {
  return int_halves([&](int i) { return _mm256_and_si256(_mm256_srli_epi16(x.of[i], 4), _mm256_set1_epi8(15)); });
}

// Two products of bytes add up to 16 bits, which saturate at 32767: 2 x 15 x 127 does not reach that.
inline __m256i dot_bytes(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
  const __m256i pairs = _mm256_maddubs_epi16(unsigned_bytes, signed_bytes);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline Ints dot_nibbles(Ints sum, Lanes weights, Lanes x) {
  return int_halves([&](int i) { return dot_bytes(sum.of[i], weights.of[i], x.of[i]); });
}
// 2 x 255 x 127 would: so the weights become signed again, and their sign moves to x, which is at most 127. Then
// |w| (w's sign times x) adds up to at most 2 x 128 x 127.
inline Ints dot_int8(Ints sum, Lanes weights, Lanes x) {
  return int_halves([&](int i) {
    const __m256i signed_weights = _mm256_xor_si256(weights.of[i], _mm256_set1_epi8(-128));
    const __m256i signed_x = _mm256_sign_epi8(x.of[i], signed_weights);
    return dot_bytes(sum.of[i], _mm256_abs_epi8(signed_weights), signed_x);
  });
}

// Into the second-level cache: what is fetched ahead is more than the first one holds.
inline void prefetch(const void* address) { _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T1); }
inline void pause() { _mm_pause(); }

}  // namespace lmworks
