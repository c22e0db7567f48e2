// What a matrix is multiplied with: rows of activations, rounded to the kind of number that its format asks for.
//
//     matrix     activations
//     float32    float32
//     bfloat16   bfloat16
//     int8       int8, and for each group of 32 a scale and -offset times the sum of the group
//     int4       int8, and for each group of 32 a scale and the scale times the sum of the group
//
// A group's sum is what the constant part of its weights is multiplied with: the 128 that makes int8 weights unsigned,
// the minimum of int4 weights. Rows are padded with zeros to whole groups.
#pragma once

#include "abi.h"
#include "buffers.h"
#include "simd.h"

namespace lmworks {

constexpr int kGroup = 32;  // columns that share a scale

struct Activations {
  int64_t columns = 0;  // padded
  int32_t format = kFloat32;
  void* values = nullptr;         // (rows, columns): float, bfloat16 or int8
  float* scales = nullptr;        // (rows, groups)
  float* scaled_sums = nullptr;   // (rows, groups)
  int32_t* offset_sums = nullptr; // (rows, groups)

  int64_t groups() const { return columns / kGroup; }
};

// Owns the memory of activations: `reserve` for the largest rows to come, then `view` as often as needed.
class ActivationBuffer {
 public:
  void reserve(int32_t format, int64_t rows, int64_t columns) {
    const int64_t padded = round_up(columns, kGroup);
    values_.reserve(rows * padded * value_bytes(format));
    if (format != kInt8 && format != kInt4) return;
    scales_.reserve(rows * padded / kGroup);
    scaled_sums_.reserve(rows * padded / kGroup);
    offset_sums_.reserve(rows * padded / kGroup);
  }

  Activations view(int32_t format, int64_t columns) const {
    Activations x;
    x.format = format;
    x.columns = round_up(columns, kGroup);
    x.values = values_.data();
    x.scales = scales_.data();
    x.scaled_sums = scaled_sums_.data();
    x.offset_sums = offset_sums_.data();
    return x;
  }

 private:
  static int64_t value_bytes(int32_t format) { return format == kFloat32 ? 4 : format == kBfloat16 ? 2 : 1; }

  Buffer<uint8_t> values_;
  Buffer<float> scales_, scaled_sums_;
  Buffer<int32_t> offset_sums_;
};

// Rounds one group, 32 floats, to integers of at most 127: the largest becomes 127.
inline void round_group_to_int8(Floats first, Floats second, const Activations& x, int64_t row, int64_t group) {
  constexpr float kVanishing = 1e-30f;  // a group below is zero: 127 divided by it would be infinite
  const float largest = largest_of(larger(absolute(first), absolute(second)));
  const float inverse = largest > kVanishing ? 127.0f / largest : 0.0f;
  const Ints a = round_to_ints(multiply(first, broadcast(inverse)));
  const Ints b = round_to_ints(multiply(second, broadcast(inverse)));
  int8_t* values = static_cast<int8_t*>(x.values) + row * x.columns + group * kGroup;
  store_int8(values, a);
  store_int8(values + 16, b);
  const int32_t sum = sum_of_ints(add_ints(a, b));
  const int64_t place = row * x.groups() + group;
  x.scales[place] = largest / 127.0f;
  x.scaled_sums[place] = x.scales[place] * static_cast<float>(sum);
  x.offset_sums[place] = -kInt8Offset * sum;
}

// Stores 32 floats as group `group` of row `row`, in the format of the activations.
inline void round_group(Floats first, Floats second, const Activations& x, int64_t row, int64_t group) {
  const int64_t place = row * x.columns + group * kGroup;
  switch (x.format) {
    case kFloat32:
      store(static_cast<float*>(x.values) + place, first);
      store(static_cast<float*>(x.values) + place + 16, second);
      break;
    case kBfloat16:
      store_bfloat16(static_cast<uint16_t*>(x.values) + place, first);
      store_bfloat16(static_cast<uint16_t*>(x.values) + place + 16, second);
      break;
    default:
      round_group_to_int8(first, second, x, row, group);
  }
}

// Stores the `columns` floats of a row.
inline void round_row(const float* from, int64_t columns, const Activations& x, int64_t row) {
  for (int64_t group = 0; group < x.groups(); ++group) {
    const int64_t left = columns - group * kGroup;
    const float* place = from + group * kGroup;
    if (left >= kGroup) {
      round_group(load(place), load(place + 16), x, row, group);
    } else {
      const int first = static_cast<int>(left < 16 ? left : 16);
      const Floats second = left > 16 ? load_first(place + 16, static_cast<int>(left) - 16) : zeros();
      round_group(load_first(place, first), second, x, row, group);
    }
  }
}

}  // namespace lmworks
