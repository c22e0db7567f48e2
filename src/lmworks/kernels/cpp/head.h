// The head: logits of the wanted rows, and of each row the best token and the logarithm of the sum of all exponentials,
// computed part by part of the vocabulary while the logits are at hand.
#pragma once

#include "linear.h"

namespace lmworks {

constexpr int64_t kPartBlocks = 16;  // of 32 tokens, a part of the vocabulary

// Of `count` logits, tokens `first` ... of the vocabulary. The lowest id wins among equals.
inline PartOfVocabulary summarise(const float* logits, int64_t first, int64_t count) {
  PartOfVocabulary part{-INFINITY, 0, first};
  Floats maximum = broadcast(-INFINITY);
  for_each_vector(logits, count, -INFINITY, [&](Floats v, int64_t) { maximum = larger(maximum, v); });
  part.maximum = largest_of(maximum);
  for (int64_t i = 0; i < count; ++i) {
    if (logits[i] == part.maximum) {
      part.best = first + i;
      break;
    }
  }
  Floats sum = zeros();
  for_each_vector(logits, count, -INFINITY, [&](Floats v, int64_t) {
    sum = add(sum, exponential(subtract(v, broadcast(part.maximum))));
  });
  part.sum = sum_of(sum);
  // A vector that is not full adds e^-87 for each missing lane, far below the last digit of a sum of at least 1.
  return part;
}

// `x` (tokens, width) float32; logits (rows, vocabulary), best and log_normaliser (rows,) of the batch are written.
inline void head(Team& team, Workspace& work, const Model& model, const Batch& batch, const float* x) {
  const Matrix& matrix = model.head;
  const int64_t parts = (block_count(matrix) + kPartBlocks - 1) / kPartBlocks, rows = batch.rows;
  const NormedRows normed{x, matrix.columns, model.final_norm, batch.wanted};
  const Activations rounded = round_rows(team, work, matrix, rows, normed, Adapters());
  team.share(parts, [&](int64_t part) {
    const int64_t begin = part * kPartBlocks, end = std::min(begin + kPartBlocks, block_count(matrix));
    for (int64_t block = begin; block < end; ++block) {
      for_each_tile(0, rows, [&](const TileRows& tile) {
        alignas(64) float out[kTileTokens * kBlock];
        multiply_block(matrix, block, rounded, tile, out);
        for (int t = 0; t < tile.count; ++t) {
          float* mine = out + t * kBlock;
          for (int half = 0; model.head_softcap > 0 && half < kHalves; ++half) {
            store(mine + half * 16, soft_cap(load(mine + half * 16), model.head_softcap));
          }
          write_block<false>(batch.logits + (tile.first + t) * matrix.rows, matrix.rows, block, mine);
        }
      });
    }
    const int64_t token = begin * kBlock, count = std::min(end * kBlock, matrix.rows) - token;
    for (int64_t row = 0; row < rows; ++row) {
      work.parts.data()[row * parts + part] = summarise(batch.logits + row * matrix.rows + token, token, count);
    }
  });
  team.share(rows, [&](int64_t row) {
    const PartOfVocabulary* part = work.parts.data() + row * parts;
    PartOfVocabulary all = part[0];
    for (int64_t i = 1; i < parts; ++i) {
      if (part[i].maximum > all.maximum) {
        all.maximum = part[i].maximum;
        all.best = part[i].best;
      }
    }
    double sum = 0;
    for (int64_t i = 0; i < parts; ++i) {
      sum += part[i].sum * std::exp(static_cast<double>(part[i].maximum) - all.maximum);
    }
    batch.best[row] = all.best;
    batch.log_normaliser[row] = static_cast<float>(std::log(sum) + all.maximum);
  });
}

}  // namespace lmworks
