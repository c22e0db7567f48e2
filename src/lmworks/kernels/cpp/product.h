// Products of a matrix with rows of activations, a block of 32 rows of the matrix at a time.
#pragma once

#include "abi.h"
#include "tiles.h"

namespace lmworks {

inline int64_t block_count(const Matrix& matrix) { return (matrix.rows + kBlock - 1) / kBlock; }

inline int64_t padded_columns(const Matrix& matrix) { return round_up(matrix.columns, kGroup); }

// Computes `count` (1 ... kTileTokens) rows of x, from `row` on, times the block: out (count, 32).
inline void multiply_block(
    const Matrix& matrix, int64_t block, const Activations& x, int64_t row, int count, float* out) {
  using Tile = void (*)(const uint8_t*, const uint16_t*, const Activations&, int64_t, float*);
  static_assert(kTileTokens <= 6);
  static constexpr Tile kTiles[4][6] = {
      {float32_tile<1>, float32_tile<2>, float32_tile<3>, float32_tile<4>, float32_tile<5>, float32_tile<6>},
      {bfloat16_tile<1>, bfloat16_tile<2>, bfloat16_tile<3>, bfloat16_tile<4>, bfloat16_tile<5>, bfloat16_tile<6>},
      {int8_tile<1>, int8_tile<2>, int8_tile<3>, int8_tile<4>, int8_tile<5>, int8_tile<6>},
      {int4_tile<1>, int4_tile<2>, int4_tile<3>, int4_tile<4>, int4_tile<5>, int4_tile<6>},
  };
  static constexpr int64_t kValueBits[4] = {32, 16, 8, 4};
  static constexpr int64_t kScalesOfGroup[4] = {0, 0, kBlock, 2 * kBlock};
  const int64_t values = x.columns * kBlock * kValueBits[matrix.format] / 8;
  const uint8_t* weights = static_cast<const uint8_t*>(matrix.values) + block * values;
  const uint16_t* scales = matrix.scales + block * x.groups() * kScalesOfGroup[matrix.format];
  kTiles[matrix.format][count - 1](weights, scales, x, row, out);
  if (matrix.bias == nullptr) return;
  const int64_t valid = std::min<int64_t>(kBlock, matrix.rows - block * kBlock);
  for (int t = 0; t < count; ++t) {
    for (int64_t i = 0; i < valid; ++i) out[t * kBlock + i] += matrix.bias[block * kBlock + i];
  }
}

// Calls `work(row, count)` for tiles of nearly equal size, at most kTileTokens, that together are rows begin ... end - 1.
template <class Work>
inline void for_each_tile(int64_t begin, int64_t end, Work work) {
  const int64_t tiles = (end - begin + kTileTokens - 1) / kTileTokens;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t from = begin + (end - begin) * tile / tiles, to = begin + (end - begin) * (tile + 1) / tiles;
    work(from, static_cast<int>(to - from));
  }
}

// Rows of x are taken in chunks that stay in the second-level cache while a thread's blocks pass by.
constexpr int64_t kChunkRows = 256;

// Shares out `blocks` x chunks of rows among the team: `work(block, first row, end of rows)`.
template <class TeamType, class Work>
inline void share_blocks(TeamType& team, int64_t blocks, int64_t rows, Work work) {
  const int64_t chunks = (rows + kChunkRows - 1) / kChunkRows;
  team.share(blocks * chunks, [&](int64_t item) {
    const int64_t first = item / blocks * kChunkRows;
    work(item % blocks, first, std::min(first + kChunkRows, rows));
  });
}

}  // namespace lmworks
