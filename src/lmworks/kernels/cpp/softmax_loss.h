// Cross-entropy of rows of logits and its gradient, which takes the logits' place: a row is read while it is in the
// first-level cache, and nothing of its size is written besides.
#pragma once

#include <cmath>

#include "vector_math.h"

namespace lmworks {

struct Bfloat16Row {
  uint16_t* numbers;

  Floats at(int64_t i) const { return load_bfloat16(numbers + i); }
  float one(int64_t i) const {
    const uint32_t bits = static_cast<uint32_t>(numbers[i]) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  void put(int64_t i, Floats x) const { store_bfloat16(numbers + i, x); }
  void put_one(int64_t i, float x) const {
    alignas(64) uint16_t rounded[16];
    store_bfloat16(rounded, broadcast(x));
    numbers[i] = rounded[0];
  }
};

struct Float32Row {
  float* numbers;

  Floats at(int64_t i) const { return load(numbers + i); }
  float one(int64_t i) const { return numbers[i]; }
  void put(int64_t i, Floats x) const { store(numbers + i, x); }
  void put_one(int64_t i, float x) const { numbers[i] = x; }
};

// With q = (1 - smoothing) one-hot + smoothing / count: the gradient of -Σ q log p + z_loss log² Z by each logit is
// p (1 + 2 z_loss log Z) - q. Writes log Z, the target's -log p and the mean logit.
template <class Row>
void differentiate_row(
    Row row, int64_t count, int64_t target, float smoothing, float z_loss, float* log_z, float* nats, float* mean) {
  const int64_t whole = count / 16 * 16;
  Floats maxima = broadcast(-INFINITY), totals = zeros();
  for (int64_t i = 0; i < whole; i += 16) {
    const Floats logits = row.at(i);
    maxima = larger(maxima, logits);
    totals = add(totals, logits);
  }
  float maximum = largest_of(maxima), total = sum_of(totals);
  for (int64_t i = whole; i < count; ++i) maximum = std::max(maximum, row.one(i)), total += row.one(i);
  Floats sums = zeros();
  for (int64_t i = 0; i < whole; i += 16) {
    sums = add(sums, exponential(subtract(row.at(i), broadcast(maximum))));
  }
  float sum = sum_of(sums);
  for (int64_t i = whole; i < count; ++i) sum += std::exp(row.one(i) - maximum);
  *log_z = maximum + std::log(sum);
  *nats = *log_z - row.one(target);
  *mean = total / static_cast<float>(count);
  const float factor = 1 + 2 * z_loss * *log_z, even = smoothing / static_cast<float>(count);
  for (int64_t i = 0; i < whole; i += 16) {
    const Floats p = exponential(subtract(row.at(i), broadcast(*log_z)));
    row.put(i, multiply_add(p, broadcast(factor), broadcast(-even)));
  }
  for (int64_t i = whole; i < count; ++i) row.put_one(i, std::exp(row.one(i) - *log_z) * factor - even);
  // p - 1 from the logarithm of p: where p is nearly 1, the difference of two roundings would be nothing but rounding.
  const float p = std::exp(-*nats);
  row.put_one(target, std::expm1(-*nats) + p * (factor - 1) + smoothing - even);
}

}  // namespace lmworks
