// The innermost products: one block of 32 rows of a matrix times a few rows of activations, all in registers.
//
// A block lies in memory as the columns are needed, with the 32 rows side by side in two vectors:
//
//     int4      | columns 0-7 of rows 0-15 | columns 0-7 of rows 16-31 | columns 8-15 of rows 0-15 | ...
//     int8      | columns 0-3 of rows 0-15 | columns 0-3 of rows 16-31 | columns 4-7  of rows 0-15 | ...
//     bfloat16  | columns 0-1 ...                  float32  | column 0 ...
//
// so that one lane adds up one row's products, and a value of x is the same for all lanes. A result is the same float
// whatever stands beside it in the tile: every sum goes over the columns in order, in an accumulator of its own.
#pragma once

#include "activations.h"

namespace lmworks {

constexpr int kBlock = 32;  // rows of a matrix, in two vectors
constexpr int kHalves = 2;
constexpr int kVectorBytes = 64;
constexpr int kStepBytes = kHalves * kVectorBytes;  // of a block, between one step over the columns and the next
constexpr int64_t kPrefetchBytes = 4096;            // ahead: hardware prefetchers stop where a page of memory ends

// Few rows of x do little work on each byte of the matrix, so that its way from memory is what takes time.
template <int T>
inline void prefetch_weights(const uint8_t* weights) {
  if constexpr (T <= 4) {
    prefetch(weights + kPrefetchBytes);
    prefetch(weights + kPrefetchBytes + kVectorBytes);
  }
}

// The sums of a tile, `T` rows of x by 32 rows of the matrix.
template <int T>
struct Sums {
  Floats of[T][kHalves];

  Sums() {
    for (int t = 0; t < T; ++t) of[t][0] = of[t][1] = zeros();
  }

  void store_to(float* out) const {
    for (int t = 0; t < T; ++t) {
      store(out + t * kBlock, of[t][0]);
      store(out + t * kBlock + 16, of[t][1]);
    }
  }
};

// value = scale * q + minimum, so for each group: scale * x_scale * sum(q * x) + minimum * x_scale * sum(x).
template <int T>
void int4_tile(const uint8_t* weights, const uint16_t* scales, const Activations& x, int64_t row, float* out) {
  const int8_t* values = static_cast<const int8_t*>(x.values) + row * x.columns;
  const float* x_scales = x.scales + row * x.groups();
  const float* x_sums = x.scaled_sums + row * x.groups();
  const int64_t groups = x.groups();
  Sums<T> sums;
  for (int64_t group = 0; group < groups; ++group) {
    Ints dots[T][kHalves];
    for (int t = 0; t < T; ++t) dots[t][0] = dots[t][1] = int_zeros();
#pragma GCC unroll 4
    for (int eight = 0; eight < kGroup; eight += 8, weights += kStepBytes) {
      prefetch_weights<T>(weights);
      const Lanes first = load_lanes(weights), second = load_lanes(weights + kVectorBytes);
      const Lanes low[kHalves] = {low_nibbles(first), low_nibbles(second)};
      const Lanes high[kHalves] = {high_nibbles(first), high_nibbles(second)};
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const int8_t* place = values + t * x.columns + group * kGroup + eight;
        const Lanes x_low = broadcast_lane(place), x_high = broadcast_lane(place + 4);
        for (int half = 0; half < kHalves; ++half) {
          dots[t][half] = dot_nibbles(dots[t][half], low[half], x_low);
          dots[t][half] = dot_nibbles(dots[t][half], high[half], x_high);
        }
      }
    }
    for (int half = 0; half < kHalves; ++half) {
      const Floats scale = load_half(scales + half * 16), minimum = load_half(scales + kBlock + half * 16);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Floats dot = multiply(to_floats(dots[t][half]), broadcast(x_scales[t * groups + group]));
        const Floats sum = multiply_add(dot, scale, sums.of[t][half]);
        sums.of[t][half] = multiply_add(minimum, broadcast(x_sums[t * groups + group]), sum);
      }
    }
    scales += 2 * kBlock;
  }
  sums.store_to(out);
}

// value = scale * q; the weights in memory are q + 128, and the offset of each group's sum takes the 128 back.
template <int T>
void int8_tile(const uint8_t* weights, const uint16_t* scales, const Activations& x, int64_t row, float* out) {
  const int8_t* values = static_cast<const int8_t*>(x.values) + row * x.columns;
  const float* x_scales = x.scales + row * x.groups();
  const int32_t* x_offsets = x.offset_sums + row * x.groups();
  const int64_t groups = x.groups();
  Sums<T> sums;
  for (int64_t group = 0; group < groups; ++group) {
    Ints dots[T][kHalves];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) dots[t][0] = dots[t][1] = broadcast_int(x_offsets[t * groups + group]);
#pragma GCC unroll 8
    for (int four = 0; four < kGroup; four += 4, weights += kStepBytes) {
      prefetch_weights<T>(weights);
      const Lanes w[kHalves] = {load_lanes(weights), load_lanes(weights + kVectorBytes)};
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Lanes four_of_x = broadcast_lane(values + t * x.columns + group * kGroup + four);
        for (int half = 0; half < kHalves; ++half) dots[t][half] = dot_int8(dots[t][half], w[half], four_of_x);
      }
    }
    for (int half = 0; half < kHalves; ++half) {
      const Floats scale = load_half(scales + half * 16);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Floats dot = multiply(to_floats(dots[t][half]), broadcast(x_scales[t * groups + group]));
        sums.of[t][half] = multiply_add(dot, scale, sums.of[t][half]);
      }
    }
    scales += kBlock;
  }
  sums.store_to(out);
}

template <int T>
void bfloat16_tile(const uint8_t* weights, const uint16_t*, const Activations& x, int64_t row, float* out) {
  const uint16_t* values = static_cast<const uint16_t*>(x.values) + row * x.columns;
  Sums<T> sums;
  for (int64_t column = 0; column < x.columns; column += 2, weights += kStepBytes) {
    prefetch_weights<T>(weights);
    const Lanes w[kHalves] = {load_lanes(weights), load_lanes(weights + kVectorBytes)};
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Lanes pair = broadcast_lane(values + t * x.columns + column);
      for (int half = 0; half < kHalves; ++half) sums.of[t][half] = dot_pairs(sums.of[t][half], w[half], pair);
    }
  }
  sums.store_to(out);
}

template <int T>
void float32_tile(const uint8_t* weights, const uint16_t*, const Activations& x, int64_t row, float* out) {
  const float* values = static_cast<const float*>(x.values) + row * x.columns;
  Sums<T> sums;
  for (int64_t column = 0; column < x.columns; ++column, weights += kStepBytes) {
    prefetch_weights<T>(weights);
    const Floats w[kHalves] = {lanes_as_floats(load_lanes(weights)), lanes_as_floats(load_lanes(weights + kVectorBytes))};
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Floats value = broadcast(values[t * x.columns + column]);
      for (int half = 0; half < kHalves; ++half) sums.of[t][half] = multiply_add(w[half], value, sums.of[t][half]);
    }
  }
  sums.store_to(out);
}

}  // namespace lmworks
