// The weights of a quantised matrix as plain rows of numbers, a part of the matrix at a time: training multiplies with
// them, and with their transpose, and keeps none of them.
#pragma once

#include "tile_product.h"
#include "tiles.h"

namespace lmworks {

// Blocks of 32 rows in the layout of tiles.h, from some group on: `block_stride` bytes from one to the next.
struct PackedBlocks {
  const uint8_t* first;
  int64_t block_stride, rows, columns;
};

// Sixteen rows of a group, transposed: steps[column / run][row] of `Element`. Every value is rounded once, to float32:
// scale * q is exact in it.
template <class Element, bool kNibbles>
inline void dequantise_steps(const uint8_t* group, int half, uint32_t* steps) {
  constexpr int kColumns = kNibbles ? 8 : 4;  // that share a lane
  const auto* scales = reinterpret_cast<const uint16_t*>(group + kGroup / kColumns * kStepBytes) + half * 16;
  const Floats scale = load_half(scales);
  const Floats minimum = kNibbles ? load_half(scales + kBlock) : multiply(scale, broadcast(-128.0f));
  for (int column = 0; column < kGroup; column += kColumns) {
    int32_t lanes[16];
    std::memcpy(lanes, group + column / kColumns * kStepBytes + half * kVectorBytes, sizeof(lanes));
    Floats values[kColumns];
    for (int i = 0; i < kColumns; ++i) {
      alignas(64) float q[16];
      const int shift = kNibbles ? 8 * (i % 4) + 4 * (i / 4) : 8 * i;
      for (int r = 0; r < 16; ++r) q[r] = static_cast<float>(lanes[r] >> shift & (kNibbles ? 15 : 255));
      values[i] = multiply_add(load(q), scale, minimum);
    }
    for (int i = 0; i < kColumns; i += 2) store_steps<Element>(steps, 16, column + i, 0, values[i], values[i + 1]);
  }
}

// A block's rows to `out` (rows, columns), row-major, of lanes of `Element`.
template <class Element, bool kNibbles>
inline void dequantise_block(const PackedBlocks& matrix, int64_t block, uint8_t* out) {
  constexpr int64_t kNumberBytes = 4 / Element::kRun;
  const uint8_t* group = matrix.first + block * matrix.block_stride;
  for (int64_t column = 0; column < matrix.columns; column += kGroup, group += kGroupBytes[kNibbles ? kInt4 : kInt8]) {
    const int64_t width = std::min<int64_t>(kGroup, matrix.columns - column) * kNumberBytes;  // in bytes
    for (int half = 0; half < kHalves; ++half) {
      const int64_t row = block * kBlock + half * 16, count = std::min<int64_t>(16, matrix.rows - row);
      alignas(64) uint32_t steps[kGroup / Element::kRun * 16];
      dequantise_steps<Element, kNibbles>(group, half, steps);
      for (int64_t byte = 0; byte < width; byte += kVectorBytes) {
        Lanes lanes[16];
        for (int i = 0; i < 16; ++i) lanes[i] = load_lanes(steps + byte * 4 + i * 16);
        transpose(lanes);
        for (int64_t r = 0; r < count; ++r) {
          uint8_t* place = out + ((row + r) * matrix.columns + column) * kNumberBytes + byte;
          if (byte + kVectorBytes <= width) {
            write_lanes(place, lanes[r]);
          } else {
            alignas(64) uint8_t whole[kVectorBytes];
            write_lanes(whole, lanes[r]);
            std::copy_n(whole, width - byte, place);
          }
        }
      }
    }
  }
}

}  // namespace lmworks
