// What the machine can do at most: how fast the team reads memory, and how fast it multiplies numbers that are at hand.
//
// Both give a result that only all of the work gives, for tests and so that no compiler leaves it out.
#pragma once

#include <algorithm>
#include <atomic>

#include "abi.h"
#include "team.h"
#include "tiles.h"

namespace lmworks {

constexpr int kReadSums = 8;                // additions that need not wait for each other
constexpr int64_t kReadPiece = 1 << 16;     // numbers that a thread takes at a time: 256 KiB
constexpr int64_t kMultiplyItems = 64;      // for each thread, which help each other
constexpr int64_t kMultiplySteps = 20'000;  // of an item: so many sums of ones stay whole numbers in float32

inline int64_t sum_of_piece(const int32_t* numbers, int64_t count) {
  Ints sums[kReadSums];
#pragma GCC unroll 8
  for (int i = 0; i < kReadSums; ++i) sums[i] = int_zeros();
  int64_t at = 0;
  for (; at + 16 * kReadSums <= count; at += 16 * kReadSums) {
#pragma GCC unroll 8
    for (int i = 0; i < kReadSums; ++i) sums[i] = add_ints(sums[i], load_lanes(numbers + at + 16 * i));
  }
  int64_t sum = 0;
#pragma GCC unroll 8
  for (int i = 0; i < kReadSums; ++i) sum += sum_of_ints(sums[i]);
  for (; at < count; ++at) sum += numbers[at];
  return sum;
}

// Reads all numbers once; every thread reads its part from front to back. They must be below 2^16, so that those which
// meet in one vector, 8192 of a piece, add up in 32 bits.
inline void read_numbers(Team& team, const int32_t* numbers, int64_t count, std::atomic<int64_t>& sum) {
  team.share((count + kReadPiece - 1) / kReadPiece, [&](int64_t piece) {
    const int64_t begin = piece * kReadPiece;
    sum.fetch_add(sum_of_piece(numbers + begin, std::min(kReadPiece, count - begin)), std::memory_order_relaxed);
  });
}

// Steps of the innermost loop of a product: as many sums as a tile keeps in registers, and the activations there too, so
// that nothing but multiplying takes time. `weight` times `one` is 1, so that the sums add up to the number of products.
template <class Number, class Zero, class Dot, class Total>
int64_t multiply_ones(Number weight, Number one, Zero zero, Dot dot, Total total) {
  constexpr int kCount = kStepBytes / sizeof(Number);
  alignas(64) Number weights[kCount], ones[kCount];
  std::fill_n(weights, kCount, weight);
  std::fill_n(ones, kCount, one);
  asm volatile("" : : "r"(ones) : "memory");  // they may be others than these, and unequal: nothing is known of x
  decltype(zero()) sums[kTileTokens][kHalves];
  Lanes x[kTileTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTileTokens; ++t) {
    sums[t][0] = sums[t][1] = zero();
    x[t] = broadcast_lane(ones + 4 * t / sizeof(Number));
  }
#pragma GCC unroll 4
  for (int64_t step = 0; step < kMultiplySteps; ++step) {
    asm volatile("" : : "r"(weights) : "memory");  // nor of these: they are multiplied anew in each step
    const Lanes w[kHalves] = {load_lanes(weights), load_lanes(weights + kCount / kHalves)};
#pragma GCC unroll 8
    for (int t = 0; t < kTileTokens; ++t) {
      for (int half = 0; half < kHalves; ++half) sums[t][half] = dot(sums[t][half], w[half], x[t]);
    }
  }
  int64_t products = 0;
#pragma GCC unroll 8
  for (int t = 0; t < kTileTokens; ++t) {
    for (int half = 0; half < kHalves; ++half) products += static_cast<int64_t>(total(sums[t][half]));
  }
  return products;
}

// One item, in the instructions that products of the format are made of.
inline int64_t multiply_item(int32_t format) {
  const auto no_floats = [] { return zeros(); };
  const auto no_ints = [] { return int_zeros(); };
  const auto of_floats = [](Floats sums) { return sum_of(sums); };
  const auto of_ints = [](Ints sums) { return sum_of_ints(sums); };
  switch (format) {
    case kFloat32:
      return multiply_ones(
          1.0f, 1.0f, no_floats,
          [](Floats sum, Lanes w, Lanes x) { return multiply_add(lanes_as_floats(w), lanes_as_floats(x), sum); },
          of_floats);
    case kBfloat16:
      return multiply_ones(
          uint16_t{0x3f80}, uint16_t{0x3f80}, no_floats,
          [](Floats sum, Lanes w, Lanes x) { return dot_pairs(sum, w, x); }, of_floats);
    case kInt8:
      return multiply_ones(
          static_cast<uint8_t>(1 + 128 - kInt8Offset), uint8_t{1}, no_ints,
          [](Ints sum, Lanes w, Lanes x) { return dot_int8(sum, w, x); }, of_ints);
    default:
      return multiply_ones(
          uint8_t{1}, uint8_t{1}, no_ints, [](Ints sum, Lanes w, Lanes x) { return dot_nibbles(sum, w, x); }, of_ints);
  }
}

// `products`: how many pairs of numbers were multiplied.
inline void multiply_items(Team& team, int32_t format, std::atomic<int64_t>& products) {
  team.share(kMultiplyItems * team.size, [&](int64_t) {
    products.fetch_add(multiply_item(format), std::memory_order_relaxed);
  });
}

}  // namespace lmworks
