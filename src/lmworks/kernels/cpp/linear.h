// The products of a layer with what comes before and after them: rows are normed and rounded on the way in, and biases,
// adapters and the residual are added on the way out, so that nothing is written to memory twice.
#pragma once

#include "adapters.h"
#include "product.h"
#include "team.h"
#include "vector_math.h"
#include "workspace.h"

namespace lmworks {

// Memory for `round_rows`.
inline void reserve_rows(Workspace& work, const Matrix& matrix, int64_t rows) {
  work.activations.reserve(matrix.format, rows, matrix.columns);
  for (Own& thread : work.own) {
    thread.activations.reserve(matrix.format, std::min(rows, kFewRows), matrix.columns);
    thread.row.reserve(matrix.columns);
  }
}

// The rows of a product as given.
struct PlainRows {
  const float* x;
  int64_t columns;
  const float* operator()(int64_t row, float*) const { return x + row * columns; }
};

// The rows of a product, normed first if there is a norm; `index` null: row by row, otherwise the rows with these
// numbers.
struct NormedRows {
  const float* x;
  int64_t columns;
  const Norm& norm;
  const int32_t* index = nullptr;
  float* written = nullptr;  // `x` itself, where its norm takes its place
  const float* operator()(int64_t row, float* space) const {
    const float* from = x + (index ? index[row] : row) * columns;
    if (norm.weight == nullptr) return from;
    float* to = written ? written + row * columns : space;
    normalise(from, columns, norm, to);
    return to;
  }
};

// Whether the rows are to be read once, by one thread.
inline bool writes(const PlainRows&) { return false; }
inline bool writes(const NormedRows& rows) { return rows.written != nullptr; }

// `rows_of(row, space)` gives the floats of a row, in `space` (columns,) if it has to compute them.
template <class Rows>
Activations round_rows(
    Team& team, Workspace& work, const Matrix& matrix, int64_t rows, Rows rows_of, const Adapters& adapters) {
  Own& own = work.own[team.thread];
  const auto round_one = [&](const Activations& x, int64_t row) {
    const float* floats = rows_of(row, own.row.data());
    round_row(floats, matrix.columns, x, row);
    return floats;
  };
  if (rows <= kFewRows && adapters.used == nullptr && !writes(rows_of)) {
    const Activations x = own.activations.view(matrix.format, matrix.columns);
    for (int64_t row = 0; row < rows; ++row) round_one(x, row);
    return x;
  }
  const Activations x = work.activations.view(matrix.format, matrix.columns);
  team.share(rows, [&](int64_t row) { lower_rank(adapters, row, round_one(x, row), matrix.columns); });
  return x;
}

// Shares out the product of `x` with the matrix: `use(row, block, out)` gets each row's 32 results of a block.
template <class Use>
void multiply_rows(
    Team& team, const Matrix& matrix, const Activations& x, int64_t rows, const Adapters& adapters, Use use) {
  share_blocks(team, block_count(matrix), rows, [&](int64_t block, int64_t begin, int64_t end) {
    for_each_tile(begin, end, [&](const TileRows& tile) {
      alignas(64) float out[kTileTokens * kBlock];
      multiply_block(matrix, block, x, tile, out);
      for (int t = 0; t < tile.count; ++t) {
        add_changes(adapters, tile.first + t, block, out + t * kBlock);
        use(tile.first + t, block, out + t * kBlock);
      }
    });
  });
}

// Writes 32 results into, or adds them to, columns 32 * block ... of a row of `width` floats.
template <bool kAdd>
inline void write_block(float* row, int64_t width, int64_t block, const float* out) {
  float* place = row + block * kBlock;
  for (int half = 0; half < kHalves; ++half) {
    const int64_t left = width - block * kBlock - half * 16;
    if (left <= 0) return;
    Floats value = load(out + half * 16);
    if (left >= 16) {
      store(place + half * 16, kAdd ? add(load(place + half * 16), value) : value);
    } else {
      const int count = static_cast<int>(left);
      store_first(place + half * 16, kAdd ? add(load_first(place + half * 16, count), value) : value, count);
    }
  }
}

// out (rows, matrix.rows) = the product, or += with kAdd.
template <bool kAdd, class Rows>
void linear(
    Team& team, Workspace& work, const Matrix& matrix, int64_t rows, Rows rows_of, const Adapters& adapters,
    float* out) {
  const Activations x = round_rows(team, work, matrix, rows, rows_of, adapters);
  multiply_rows(team, matrix, x, rows, adapters, [&](int64_t row, int64_t block, const float* result) {
    write_block<kAdd>(out + row * matrix.rows, matrix.rows, block, result);
  });
}

// What a feed-forward network computes before its second product.
struct Gating {
  int64_t hidden;  // columns of the second matrix
  int32_t activation, gated;

  int64_t blocks() const { return (hidden + kBlock - 1) / kBlock; }
};

// activation(gate) * up, or activation(up), of the rows: 32 hidden values at a time, which are a group of the next
// product. `use(row, group, first, second)` gets them as two vectors.
template <class Rows, class Use>
void gated_linear(
    Team& team, Workspace& work, const Matrix& gate_up, const Gating& gating, int64_t rows, Rows rows_of,
    const Adapters& adapters, Use use) {
  const Activations x = round_rows(team, work, gate_up, rows, rows_of, adapters);
  share_blocks(team, gating.blocks(), rows, [&](int64_t block, int64_t begin, int64_t end) {
    for_each_tile(begin, end, [&](const TileRows& tile) {
      alignas(64) float gate[kTileTokens * kBlock], up[kTileTokens * kBlock];
      multiply_block(gate_up, block, x, tile, gate);
      if (gating.gated) multiply_block(gate_up, block + gating.blocks(), x, tile, up);
      for (int t = 0; t < tile.count; ++t) {
        float* mine = gate + t * kBlock;
        float* other = up + t * kBlock;
        add_changes(adapters, tile.first + t, block, mine);
        if (gating.gated) add_changes(adapters, tile.first + t, block + gating.blocks(), other);
        Floats halves[kHalves];
        for (int half = 0; half < kHalves; ++half) {
          halves[half] = activate(load(mine + half * 16), gating.activation);
          if (gating.gated) halves[half] = multiply(halves[half], load(other + half * 16));
        }
        use(tile.first + t, block, halves[0], halves[1]);
      }
    });
  });
}

}  // namespace lmworks
