// Functions of vectors: exponential, hyperbolic tangent, error function, and the activations of feed-forward networks.
#pragma once

#include <algorithm>

#include "abi.h"
#include "simd.h"

namespace lmworks {

// Calls `work(vector, place)` for `count` numbers, sixteen at a time; what the last sixteen lack is `filling`.
template <class Work>
inline void for_each_vector(const float* numbers, int64_t count, float filling, Work work) {
  for (int64_t i = 0; i < count; i += 16) {
    const int left = static_cast<int>(std::min<int64_t>(16, count - i));
    work(left == 16 ? load(numbers + i) : keep_lanes(load_first(numbers + i, left), 0, left, broadcast(filling)), i);
  }
}

// e^x to 1.2 units in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor series of order 7, times
// 2^n. Below -87, where float32 leaves its normal range, it stays at e^-87; a NaN comes through.
[[gnu::always_inline]] inline Floats exponential(Floats x) {  // a call would save all registers
  x = larger(broadcast(-87.0f), smaller(broadcast(88.0f), x));
  const Floats n = round_to_even(multiply(x, broadcast(1.44269504f)));
  // ln 2 in two parts: the first has few bits, so that n times it is exact.
  Floats r = multiply_add(n, broadcast(-0.693359375f), x);
  r = multiply_add(n, broadcast(2.12194440e-4f), r);
  Floats p = broadcast(1.0f / 5040);
  for (const float coefficient : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    p = multiply_add(p, r, broadcast(coefficient));
  }
  return times_power_of_two(p, n);
}

inline Floats logistic(Floats x) {
  return divide(broadcast(1.0f), add(broadcast(1.0f), exponential(subtract(zeros(), x))));
}

// tanh x = 1 - 2 / (e^2x + 1)
inline Floats hyperbolic_tangent(Floats x) {
  const Floats e = exponential(add(x, x));
  return subtract(broadcast(1.0f), divide(broadcast(2.0f), add(e, broadcast(1.0f))));
}

// Scores that never exceed `cap`: cap tanh(x / cap) (Bello et al. 2016).
inline Floats soft_cap(Floats x, float cap) {
  return multiply(broadcast(cap), hyperbolic_tangent(divide(x, broadcast(cap))));
}

// The error function, to 6e-7 (Abramowitz & Stegun 1964, 7.1.26).
inline Floats error_function(Floats x) {
  const Floats magnitude = absolute(x);
  const Floats t = divide(broadcast(1.0f), multiply_add(broadcast(0.3275911f), magnitude, broadcast(1.0f)));
  Floats p = broadcast(1.061405429f);
  for (const float coefficient : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) {
    p = multiply_add(p, t, broadcast(coefficient));
  }
  const Floats tail = multiply(multiply(p, t), exponential(subtract(zeros(), multiply(x, x))));
  const Floats positive = subtract(broadcast(1.0f), tail);
  return copy_sign(positive, x);
}

inline Floats activate(Floats x, int32_t activation) {
  switch (activation) {
    case kSilu:
      return multiply(x, logistic(x));
    case kGelu: {  // x times the normal distribution function
      const Floats half = multiply(broadcast(0.5f), x);
      return multiply_add(half, error_function(multiply(x, broadcast(0.70710678f))), half);
    }
    case kGeluTanh: {
      const Floats cubic = multiply_add(multiply(multiply(x, x), x), broadcast(0.044715f), x);
      const Floats half = multiply(broadcast(0.5f), x);
      return multiply_add(half, hyperbolic_tangent(multiply(broadcast(0.79788456f), cubic)), half);
    }
    case kRelu:
      return larger(x, zeros());
    default: {  // kRelu2
      const Floats positive = larger(x, zeros());
      return multiply(positive, positive);
    }
  }
}

}  // namespace lmworks
