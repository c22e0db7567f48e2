// Normalisation of one row: by its root mean square (Zhang & Sennrich 2019), or by mean and variance (Ba et al. 2016).
#pragma once

#include <cmath>

#include "abi.h"
#include "simd.h"

namespace lmworks {

// Calls `work(vector, column)` for a row, sixteen columns at a time; what is missing of the last sixteen is 0.
template <class Work>
inline void for_each_sixteen(const float* row, int64_t columns, Work work) {
  int64_t column = 0;
  for (; column + 16 <= columns; column += 16) work(load(row + column), column);
  if (column < columns) work(load_first(row + column, static_cast<int>(columns - column)), column);
}

inline void store_up_to(float* row, int64_t columns, int64_t column, Floats x) {
  if (column + 16 <= columns) {
    store(row + column, x);
  } else {
    store_first(row + column, x, static_cast<int>(columns - column));
  }
}

inline Floats load_up_to(const float* row, int64_t columns, int64_t column) {
  return column + 16 <= columns ? load(row + column) : load_first(row + column, static_cast<int>(columns - column));
}

inline void rms_normalise(const float* x, int64_t columns, const Norm& norm, float* out) {
  Floats squares = zeros();
  for_each_sixteen(x, columns, [&](Floats v, int64_t) { squares = multiply_add(v, v, squares); });
  const Floats factor = broadcast(1.0f / std::sqrt(sum_of(squares) / static_cast<float>(columns) + norm.eps));
  for_each_sixteen(x, columns, [&](Floats v, int64_t column) {
    const Floats weight = load_up_to(norm.weight, columns, column);
    store_up_to(out, columns, column, multiply(multiply(v, factor), weight));
  });
}

inline void layer_normalise(const float* x, int64_t columns, const Norm& norm, float* out) {
  Floats sums = zeros();
  for_each_sixteen(x, columns, [&](Floats v, int64_t) { sums = add(sums, v); });
  const float mean = sum_of(sums) / static_cast<float>(columns);
  Floats squares = zeros();  // of the differences: the mean of squares minus the square of the mean cancels digits
  for_each_sixteen(x, columns, [&](Floats v, int64_t column) {
    Floats from_mean = subtract(v, broadcast(mean));
    if (column + 16 > columns) from_mean = keep_lanes(from_mean, 0, static_cast<int>(columns - column), zeros());
    squares = multiply_add(from_mean, from_mean, squares);
  });
  const Floats factor = broadcast(1.0f / std::sqrt(sum_of(squares) / static_cast<float>(columns) + norm.eps));
  for_each_sixteen(x, columns, [&](Floats v, int64_t column) {
    const Floats weight = multiply(factor, load_up_to(norm.weight, columns, column));
    const Floats bias = norm.bias ? load_up_to(norm.bias, columns, column) : zeros();
    store_up_to(out, columns, column, multiply_add(subtract(v, broadcast(mean)), weight, bias));
  });
}

// `x` and `out` (columns,); they may be the same.
inline void normalise(const float* x, int64_t columns, const Norm& norm, float* out) {
  if (norm.kind == kRms) {
    rms_normalise(x, columns, norm, out);
  } else {
    layer_normalise(x, columns, norm, out);
  }
}

}  // namespace lmworks
