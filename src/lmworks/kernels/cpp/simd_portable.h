// simd.h in the vector types of GCC and clang, which become whatever the target has. To be correct everywhere: the
// libraries for one processor family are there to be fast.
#pragma once

#include <algorithm>
#include <cmath>

namespace lmworks {

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
using Lanes = Ints;

constexpr int kTileTokens = 4;
constexpr int kInt8Offset = 128;  // as in simd_avx512.h

// ---- floats

inline Floats broadcast(float x) { return Floats{} + x; }
inline Floats zeros() { return Floats{}; }
inline Floats load(const float* from) {
  Floats x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }
inline Floats load_first(const float* from, int count) {
  Floats x{};
  std::memcpy(&x, from, count * sizeof(float));
  return x;
}
inline void store_first(float* to, Floats x, int count) { std::memcpy(to, &x, count * sizeof(float)); }

inline Ints lane_numbers() { return Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }
inline Floats keep_lanes(Floats x, int begin, int end, Floats other) {
  const Ints lane = lane_numbers();
  return (lane >= begin) & (lane < end) ? x : other;
}

inline Floats add(Floats a, Floats b) { return a + b; }
inline Floats subtract(Floats a, Floats b) { return a - b; }
inline Floats multiply(Floats a, Floats b) { return a * b; }
inline Floats divide(Floats a, Floats b) { return a / b; }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return a * b + c; }
inline Floats square_root(Floats x) {
  for (int i = 0; i < 16; ++i) x[i] = std::sqrt(x[i]);
  return x;
}
inline Floats absolute(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }
inline Floats copy_sign(Floats magnitude, Floats sign) {
  return (Floats)(((Ints)magnitude & 0x7fffffff) | ((Ints)sign & ~Ints{} << 31));
}
// A NaN in the second operand comes through.
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

inline Ints round_to_ints(Floats x) {
  Ints result;
  for (int i = 0; i < 16; ++i) result[i] = static_cast<int32_t>(std::nearbyint(x[i]));
  return result;
}
inline Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }
inline Floats round_to_even(Floats x) { return to_floats(round_to_ints(x)); }
inline Floats times_power_of_two(Floats x, Floats n) {
  return x * (Floats)((round_to_ints(n) + 127) << 23);  // the exponent's bits of 2 to the power of n
}
// One bit for each lane.
inline uint32_t at_least(Floats a, Floats b) {
  const Ints yes = a >= b;  // -1 or 0
  uint32_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= (yes[i] & 1u) << i;
  return bits;
}
// `x` where a >= b, and 0.
inline Floats where_at_least(Floats a, Floats b, Floats x) { return a >= b ? x : zeros(); }
// The chosen lanes side by side.
inline void store_lanes(float* to, Floats x, uint32_t lanes) {
  for (int i = 0; i < 16; ++i) {
    if (lanes >> i & 1) *to++ = x[i];
  }
}
inline void store_int_lanes(int32_t* to, Ints x, uint32_t lanes) {
  for (int i = 0; i < 16; ++i) {
    if (lanes >> i & 1) *to++ = x[i];
  }
}
inline float sum_of(Floats x) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  }
  return x[0];
}
inline float largest_of(Floats x) {
  float largest = x[0];
  for (int i = 1; i < 16; ++i) largest = largest > x[i] ? largest : x[i];
  return largest;
}

// ---- other float formats

// Half precision: the exponent is moved by 112; what was subnormal is normalised by a subtraction.
inline float half_bits_to_float(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  uint32_t bits = (magnitude << 13) + (112u << 23);
  if (magnitude >= 0x7c00u) bits += 112u << 23;  // infinity and NaN
  float value;
  if (magnitude < 0x0400u) {
    bits += 1u << 23;
    const uint32_t smallest_normal = 113u << 23;
    float offset;
    std::memcpy(&value, &bits, 4);
    std::memcpy(&offset, &smallest_normal, 4);
    value -= offset;
    std::memcpy(&bits, &value, 4);
  }
  bits |= sign;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline Floats load_half(const uint16_t* from) {
  Floats x;
  for (int i = 0; i < 16; ++i) x[i] = half_bits_to_float(from[i]);
  return x;
}

inline Floats load_bfloat16(const uint16_t* from) {
  Ints bits;
  for (int i = 0; i < 16; ++i) bits[i] = static_cast<int32_t>(static_cast<uint32_t>(from[i]) << 16);
  return (Floats)bits;
}

inline Floats even_of_pairs(Lanes pairs) { return (Floats)(pairs << 16); }
inline Floats odd_of_pairs(Lanes pairs) { return (Floats)(pairs & static_cast<int32_t>(0xffff0000)); }
inline Ints rounded_to_bfloat16(Floats x) {  // in the high half; to even: add half of the last place, and its own bit
  const Ints bits = (Ints)x;
  return bits + ((bits >> 16) & 1) + 0x7fff;
}
inline void store_bfloat16(uint16_t* to, Floats x) {
  const Ints rounded = rounded_to_bfloat16(x) >> 16;
  for (int i = 0; i < 16; ++i) to[i] = static_cast<uint16_t>(rounded[i]);
}
// Pairs of bfloat16: a lane of `even` is the first of its pair, one of `odd` the second.
inline void store_bfloat16_pairs(uint32_t* to, Floats even, Floats odd) {
  const Ints pairs =
      ((rounded_to_bfloat16(even) >> 16) & 0xffff) | (rounded_to_bfloat16(odd) & static_cast<int32_t>(0xffff0000));
  std::memcpy(to, &pairs, sizeof pairs);
}
inline Floats dot_pairs(Floats sum, Lanes a, Lanes b) {
  return multiply_add(odd_of_pairs(a), odd_of_pairs(b), multiply_add(even_of_pairs(a), even_of_pairs(b), sum));
}

// ---- integers

inline Ints int_zeros() { return Ints{}; }
inline Ints broadcast_int(int32_t x) { return Ints{} + x; }
inline Ints add_ints(Ints a, Ints b) { return a + b; }
inline int32_t sum_of_ints(Ints x) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += x[i];
  return sum;
}
inline void store_int8(int8_t* to, Ints x) {
  for (int i = 0; i < 16; ++i) to[i] = static_cast<int8_t>(x[i]);
}
inline Ints load_int8(const int8_t* from) {
  Ints x;
  for (int i = 0; i < 16; ++i) x[i] = from[i];
  return x;
}

// ---- lanes

inline Lanes load_lanes(const void* from) {
  Lanes x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline Lanes broadcast_lane(const void* from) {
  int32_t lane;
  std::memcpy(&lane, from, 4);
  return Ints{} + lane;
}
inline Floats lanes_as_floats(Lanes x) { return (Floats)x; }
inline void write_lanes(void* to, Lanes x) { std::memcpy(to, &x, sizeof x); }
inline Lanes zip_halves(Lanes a, Lanes b, int begin) {
  Lanes zipped;
  for (int i = 0; i < 8; ++i) zipped[2 * i] = a[begin + i], zipped[2 * i + 1] = b[begin + i];
  return zipped;
}
// The first halves of both, a lane of one after a lane of the other; and the second halves.
inline Lanes zip_first(Lanes a, Lanes b) { return zip_halves(a, b, 0); }
inline Lanes zip_second(Lanes a, Lanes b) { return zip_halves(a, b, 8); }
inline Lanes low_nibbles(Lanes x) { return x & 0x0f0f0f0f; }
inline Lanes high_nibbles(Lanes x) { return (x >> 4) & 0x0f0f0f0f; }

// sum + the products of four unsigned 8-bit weights and four signed 8-bit activations, in each lane.
inline Ints dot_int8(Ints sum, Lanes weights, Lanes x) {
  for (int shift = 0; shift < 32; shift += 8) sum += ((weights >> shift) & 255) * ((x << (24 - shift)) >> 24);
  return sum;
}
inline Ints dot_nibbles(Ints sum, Lanes weights, Lanes x) { return dot_int8(sum, weights, x); }

// Into the second-level cache: what is fetched ahead is more than the first one holds.
inline void prefetch(const void* address) { __builtin_prefetch(address, 0, 2); }
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace lmworks
