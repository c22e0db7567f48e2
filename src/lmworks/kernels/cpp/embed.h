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

// Row `row` of the matrix, times `scale`: out (columns,).
inline void read_row(const Matrix& matrix, int64_t row, float scale, float* out) {
  const int64_t block = row / kBlock, lane = row % kBlock, columns = padded_columns(matrix);
  const uint8_t* bytes = static_cast<const uint8_t*>(matrix.values);
  const int64_t first = block * columns * kBlock;  // of the block, in numbers
  switch (matrix.format) {
    case kFloat32:
      for (int64_t c = 0; c < matrix.columns; ++c) {
        out[c] = static_cast<const float*>(matrix.values)[first + c * kBlock + lane] * scale;
      }
      return;
    case kBfloat16:
      for (int64_t c = 0; c < matrix.columns; ++c) {
        const int64_t place = first + (c / 2 * kBlock + lane) * 2 + c % 2;
        const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(matrix.values)[place]) << 16;
        std::memcpy(out + c, &bits, 4);
        out[c] *= scale;
      }
      return;
    case kInt8: {
      const uint16_t* scales = matrix.scales + block * (columns / kGroup) * kBlock + lane;
      for (int64_t c = 0; c < matrix.columns; ++c) {
        const int number = bytes[first + (c / 4 * kBlock + lane) * 4 + c % 4] - 128;
        out[c] = half_to_float(scales[c / kGroup * kBlock]) * static_cast<float>(number) * scale;
      }
      return;
    }
    default: {  // kInt4
      const uint16_t* scales = matrix.scales + block * (columns / kGroup) * 2 * kBlock + lane;
      for (int64_t c = 0; c < matrix.columns; ++c) {
        const uint8_t both = bytes[first / 2 + (c / 8 * kBlock + lane) * 4 + c % 4];
        const int number = c % 8 < 4 ? both & 15 : both >> 4;
        const uint16_t* pair = scales + c / kGroup * 2 * kBlock;
        out[c] = (half_to_float(pair[0]) * static_cast<float>(number) + half_to_float(pair[kBlock])) * scale;
      }
    }
  }
}

}  // namespace lmworks
