// A step of AdamW in one pass: the gradient, the weight and its two moments are read once and written once, and the
// weight's rounding, which the model computes with, is written beside it.
#pragma once

#include <algorithm>

#include "abi.h"
#include "simd.h"

namespace lmworks {

template <bool kWhole>
inline Floats read_gradients(const AdamWStep& step, int64_t i, int count) {
  const float* numbers = static_cast<const float*>(step.gradient) + i;
  if (step.gradient_format != kBfloat16) return kWhole ? load(numbers) : load_first(numbers, count);
  const uint16_t* halves = static_cast<const uint16_t*>(step.gradient) + i;
  if (kWhole) return load_bfloat16(halves);
  uint16_t padded[16]{};
  std::copy(halves, halves + count, padded);
  return load_bfloat16(padded);
}

// `count` weights from place i on: sixteen where kWhole. Each has the same bits wherever it lies in a tensor.
template <bool kWhole>
inline void update_vector(const AdamWStep& step, int64_t i, int count) {
  const auto read = [&](const float* from) { return kWhole ? load(from + i) : load_first(from + i, count); };
  const auto write = [&](float* to, Floats x) { kWhole ? store(to + i, x) : store_first(to + i, x, count); };
  const Floats gradient = multiply(read_gradients<kWhole>(step, i, count), broadcast(step.factor));
  const Floats first = read(step.first_moment), second = read(step.second_moment);
  // Sums of products are spelled out as one instruction and a product: a compiler that fused others would round anew.
  const Floats mean = multiply_add(broadcast(step.new_in_first), gradient, multiply(broadcast(step.beta1), first));
  const Floats weighted = multiply(broadcast(step.new_in_second), gradient);
  const Floats square = multiply_add(weighted, gradient, multiply(broadcast(step.beta2), second));
  const Floats deviation =
      multiply_add(square_root(square), broadcast(step.deviation_scale), broadcast(step.epsilon));
  const Floats kept = multiply(read(step.weight), broadcast(step.kept));
  const Floats weight = multiply_add(divide(mean, deviation), broadcast(-step.rate), kept);
  write(step.first_moment, mean);
  write(step.second_moment, square);
  write(step.weight, weight);
  if (step.rounded == nullptr) return;
  uint16_t rounded[16];
  store_bfloat16(kWhole ? step.rounded + i : rounded, weight);
  if (!kWhole) std::copy(rounded, rounded + count, step.rounded + i);
}

inline void update_weights(const AdamWStep& step, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) update_vector<true>(step, i, 16);
  if (i < end) update_vector<false>(step, i, static_cast<int>(end - i));
}

}  // namespace lmworks
