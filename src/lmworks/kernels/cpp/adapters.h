// Low-rank changes of a product for the tokens that use an adapter (Hu et al. 2021, LoRA; a batch of several adapters:
// Chen et al. 2023, Punica): first `a` times the token's row, then `b` times that, added to each tile of the product.
#pragma once

#include "abi.h"
#include "norm.h"
#include "team.h"
#include "tiles.h"

namespace lmworks {

// The changes of one matrix, by adapter.
struct Adapters {
  const int32_t* used = nullptr;      // (tokens,): the adapter of each token, -1: none
  const Changes* changes = nullptr;   // of adapter i: changes[i * stride]
  int64_t stride = 0;
  float* low_rank = nullptr;          // (tokens, most_ranks): the results of `a`, one change after the other
  int64_t most_ranks = 0;

  // What changes this token's row; null for nothing.
  const Changes* of(int64_t token) const {
    if (used == nullptr || used[token] < 0) return nullptr;
    const Changes* found = changes + used[token] * stride;
    return found->count > 0 ? found : nullptr;
  }
};

inline float dot(const float* a, const float* b, int64_t columns) {
  Floats sum = zeros();
  for_each_sixteen(a, columns, [&](Floats v, int64_t column) {
    sum = multiply_add(v, load_up_to(b, columns, column), sum);
  });
  return sum_of(sum);
}

// The first half, for the token whose row is x (columns,).
inline void lower_rank(const Adapters& adapters, int64_t token, const float* x, int64_t columns) {
  const Changes* found = adapters.of(token);
  if (found == nullptr) return;
  float* out = adapters.low_rank + token * adapters.most_ranks;
  for (const Change* change = found->changes; change < found->changes + found->count; ++change) {
    for (int64_t rank = 0; rank < change->rank; ++rank) *out++ = dot(change->a + rank * columns, x, columns);
  }
}

// The second half: adds to the product's rows of `block`, out (32,), what the token's adapter changes.
inline void add_changes(const Adapters& adapters, int64_t token, int64_t block, float* out) {
  const Changes* found = adapters.of(token);
  if (found == nullptr) return;
  const float* low = adapters.low_rank + token * adapters.most_ranks;
  for (const Change* change = found->changes; change < found->changes + found->count; ++change) {
    const int64_t begin = std::max(block * kBlock, change->first);
    const int64_t end = std::min((block + 1) * kBlock, change->first + change->rows);
    for (int64_t rank = 0; rank < change->rank; ++rank) {
      const float* b = change->b + rank * change->rows - change->first;
      for (int64_t row = begin; row < end; ++row) out[row - block * kBlock] += low[rank] * b[row];
    }
    low += change->rank;
  }
}

}  // namespace lmworks
