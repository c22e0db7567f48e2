// Products of a matrix with rows of activations, a block of 32 rows of the matrix at a time.
#pragma once

#include <algorithm>

#include "abi.h"
#include "tiles.h"

namespace lmworks {

inline int64_t block_count(const Matrix& matrix) { return (matrix.rows + kBlock - 1) / kBlock; }

inline int64_t block_bytes(const Matrix& matrix) {
  return round_up(matrix.columns, kGroup) / kGroup * kGroupBytes[matrix.format];
}

// Some rows of x, of those that all meet the same block.
struct TileRows {
  int64_t first;
  int count;     // 1 ... kTileTokens
  int64_t tile;  // number `tile` of `tiles`
  int64_t tiles;

  // How fast the next block is fetched meanwhile: a single tile fetches all of it, of several the first two half each.
  int64_t stride() const { return tiles == 1 ? kStepBytes : tile < 2 ? kStepBytes / 2 : 0; }
};

// Calls `work(rows)` for tiles of nearly equal size that together are the rows begin ... end - 1.
template <class Work>
inline void for_each_tile(int64_t begin, int64_t end, Work work) {
  const int64_t tiles = (end - begin + kTileTokens - 1) / kTileTokens;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t from = begin + (end - begin) * tile / tiles, to = begin + (end - begin) * (tile + 1) / tiles;
    work(TileRows{from, static_cast<int>(to - from), tile, tiles});
  }
}

// The tile's rows of x times the block: out (rows.count, 32).
inline void multiply_block(
    const Matrix& matrix, int64_t block, const Activations& x, const TileRows& rows, float* out) {
  using Tile = void (*)(const uint8_t*, Ahead, const Activations&, int64_t, float*);
  static_assert(kTileTokens <= 6);
  static constexpr Tile kTiles[4][6] = {
      {float32_tile<1>, float32_tile<2>, float32_tile<3>, float32_tile<4>, float32_tile<5>, float32_tile<6>},
      {bfloat16_tile<1>, bfloat16_tile<2>, bfloat16_tile<3>, bfloat16_tile<4>, bfloat16_tile<5>, bfloat16_tile<6>},
      {int8_tile<1>, int8_tile<2>, int8_tile<3>, int8_tile<4>, int8_tile<5>, int8_tile<6>},
      {int4_tile<1>, int4_tile<2>, int4_tile<3>, int4_tile<4>, int4_tile<5>, int4_tile<6>},
  };
  const int64_t bytes = block_bytes(matrix);
  const uint8_t* weights = static_cast<const uint8_t*>(matrix.values) + block * bytes;
  const Ahead ahead{weights + bytes + (rows.tile == 1 ? bytes / 2 : 0), rows.stride()};
  kTiles[matrix.format][rows.count - 1](weights, ahead, x, rows.first, out);
  if (matrix.bias == nullptr) return;
  const int64_t valid = std::min<int64_t>(kBlock, matrix.rows - block * kBlock);
  for (int t = 0; t < rows.count; ++t) {
    for (int64_t i = 0; i < valid; ++i) out[t * kBlock + i] += matrix.bias[block * kBlock + i];
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
