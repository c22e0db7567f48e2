// Token vectors, read from the packed matrix that is also the head of a model with tied weights.
#pragma once

#include "product.h"

namespace lmworks {

inline float half_to_float(uint16_t half) {
  uint16_t sixteen[16] = {half};
  float out[16];
  store(out, load_half(sixteen));
  return out[0];
}

inline float bfloat16_to_float(uint16_t upper) {
  const uint32_t bits = static_cast<uint32_t>(upper) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// Row `lane` of a block, one group of its columns: out (32,).
inline void read_group(int32_t format, const uint8_t* group, int64_t lane, float* out) {
  switch (format) {
    case kFloat32:
      for (int c = 0; c < kGroup; ++c) out[c] = reinterpret_cast<const float*>(group)[c * kBlock + lane];
      return;
    case kBfloat16:
      for (int c = 0; c < kGroup; ++c) {
        out[c] = bfloat16_to_float(reinterpret_cast<const uint16_t*>(group)[(c / 2 * kBlock + lane) * 2 + c % 2]);
      }
      return;
    case kInt8: {
      const float scale = half_to_float(reinterpret_cast<const uint16_t*>(group + kGroup * kBlock)[lane]);
      for (int c = 0; c < kGroup; ++c) {
        out[c] = scale * static_cast<float>(group[(c / 4 * kBlock + lane) * 4 + c % 4] - 128);
      }
      return;
    }
    default: {  // kInt4
      const uint16_t* scales = reinterpret_cast<const uint16_t*>(group + kGroup * kBlock / 2);
      const float scale = half_to_float(scales[lane]), minimum = half_to_float(scales[kBlock + lane]);
      for (int c = 0; c < kGroup; ++c) {
        const uint8_t both = group[(c / 8 * kBlock + lane) * 4 + c % 4];
        out[c] = scale * static_cast<float>(c % 8 < 4 ? both & 15 : both >> 4) + minimum;
      }
    }
  }
}

// Row `row` of the matrix, times `scale`: out (columns,).
inline void read_row(const Matrix& matrix, int64_t row, float scale, float* out) {
  const uint8_t* group = static_cast<const uint8_t*>(matrix.values) + row / kBlock * block_bytes(matrix);
  for (int64_t column = 0; column < matrix.columns; column += kGroup, group += kGroupBytes[matrix.format]) {
    float numbers[kGroup];
    read_group(matrix.format, group, row % kBlock, numbers);
    const int64_t count = std::min<int64_t>(kGroup, matrix.columns - column);
    for (int64_t c = 0; c < count; ++c) out[column + c] = numbers[c] * scale;
  }
}

}  // namespace lmworks
