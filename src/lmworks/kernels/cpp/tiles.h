// The innermost products: one block of 32 rows of a matrix times a few rows of activations, all in registers.
//
// A block lies in memory as its columns are needed, group by group of 32 columns, the 32 rows side by side in two
// vectors, the scales of a group behind its numbers:
//
//     int4      | columns 0-7 of rows 0-15 | columns 0-7 of rows 16-31 | columns 8-15 ... | scales | minimums |
//     int8      | columns 0-3 of rows 0-15 | columns 0-3 of rows 16-31 | columns 4-7 ...  | scales |
//     bfloat16  | columns 0-1 ... |                float32  | column 0 ... |
//
// so that one lane adds up one row's products, and a value of x is the same for all lanes. A result is the same float
// whatever stands beside it in the tile: every sum goes over the columns in order, in an accumulator of its own.
#pragma once

#include "activations.h"

namespace lmworks {

constexpr int kBlock = 32;  // rows of a matrix, in two vectors
constexpr int kHalves = 2;
constexpr int kVectorBytes = 64;
constexpr int kStepBytes = kHalves * kVectorBytes;  // from one step over the columns to the next

constexpr int64_t kGroupBytes[] = {
    4 * kGroup * kBlock,               // float32
    2 * kGroup * kBlock,               // bfloat16
    kGroup * kBlock + 2 * kBlock,      // int8
    kGroup * kBlock / 2 + 4 * kBlock,  // int4
};

// Fetches the next block from memory while there is work on this one, `stride` bytes at a step: the few rows of x of a
// decoding step give each byte of a matrix so little work that its way from memory is what takes the time. A single row
// leaves this to the processor, which sees that it reads on and on, and needs every fetch for what it is about to read.
struct Ahead {
  const uint8_t* place;
  int64_t stride;

  template <int T>
  void fetch() {
    if constexpr (T > 1) {
      prefetch(place);
      prefetch(place + kVectorBytes);
      place += stride;
    }
  }

  // Half a step.
  template <int T>
  void fetch_half() {
    if constexpr (T > 1) {
      prefetch(place);
      place += stride / 2;
    }
  }
};

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
void int4_tile(const uint8_t* weights, Ahead ahead, const Activations& x, int64_t row, float* out) {
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
      ahead.fetch<T>();
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
    ahead.fetch<T>();
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(weights);
    for (int half = 0; half < kHalves; ++half) {
      const Floats scale = load_half(scales + half * 16), minimum = load_half(scales + kBlock + half * 16);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Floats dot = multiply(to_floats(dots[t][half]), broadcast(x_scales[t * groups + group]));
        const Floats sum = multiply_add(dot, scale, sums.of[t][half]);
        sums.of[t][half] = multiply_add(minimum, broadcast(x_sums[t * groups + group]), sum);
      }
    }
    weights += 4 * kBlock;
  }
  sums.store_to(out);
}

// value = scale * q; the weights in memory are q + 128, and the offset of each group's sum takes the 128 back.
template <int T>
void int8_tile(const uint8_t* weights, Ahead ahead, const Activations& x, int64_t row, float* out) {
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
      ahead.fetch<T>();
      const Lanes w[kHalves] = {load_lanes(weights), load_lanes(weights + kVectorBytes)};
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Lanes four_of_x = broadcast_lane(values + t * x.columns + group * kGroup + four);
        for (int half = 0; half < kHalves; ++half) dots[t][half] = dot_int8(dots[t][half], w[half], four_of_x);
      }
    }
    ahead.fetch_half<T>();
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(weights);
    for (int half = 0; half < kHalves; ++half) {
      const Floats scale = load_half(scales + half * 16);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Floats dot = multiply(to_floats(dots[t][half]), broadcast(x_scales[t * groups + group]));
        sums.of[t][half] = multiply_add(dot, scale, sums.of[t][half]);
      }
    }
    weights += 2 * kBlock;
  }
  sums.store_to(out);
}

// What a lane of a float format holds, and its product with the same columns of x, added to a sum.
struct Bfloat16Pair {
  using Value = uint16_t;
  static constexpr int kColumns = 2;
  static Floats multiply(Floats sum, Lanes weights, Lanes x) { return dot_pairs(sum, weights, x); }
};

struct Float32 {
  using Value = float;
  static constexpr int kColumns = 1;
  static Floats multiply(Floats sum, Lanes weights, Lanes x) {
    return multiply_add(lanes_as_floats(weights), lanes_as_floats(x), sum);
  }
};

template <int T, class Lane>
void float_tile(const uint8_t* weights, Ahead ahead, const Activations& x, int64_t row, float* out) {
  const auto* values = static_cast<const typename Lane::Value*>(x.values) + row * x.columns;
  Sums<T> sums;
  for (int64_t column = 0; column < x.columns; column += Lane::kColumns, weights += kStepBytes) {
    ahead.fetch<T>();
    const Lanes w[kHalves] = {load_lanes(weights), load_lanes(weights + kVectorBytes)};
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Lanes of_x = broadcast_lane(values + t * x.columns + column);
      for (int half = 0; half < kHalves; ++half) sums.of[t][half] = Lane::multiply(sums.of[t][half], w[half], of_x);
    }
  }
  sums.store_to(out);
}

template <int T>
constexpr auto bfloat16_tile = float_tile<T, Bfloat16Pair>;
template <int T>
constexpr auto float32_tile = float_tile<T, Float32>;

}  // namespace lmworks
