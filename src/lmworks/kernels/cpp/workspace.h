// All memory of a step between its input and its output, in the sizes that the step needs.
#pragma once

#include <algorithm>
#include <vector>

#include "activations.h"
#include "attend.h"
#include "buffers.h"
#include "token_sampling.h"
#include "tiles.h"

namespace lmworks {

// Neighbouring tokens of one sequence, whose queries attend together.
struct QueryTile {
  int32_t start, tokens, sequence, position;  // of the first token
};

// Neighbouring tokens that are all there is of a sequence, for attention without pages.
struct Sequence {
  int64_t start, length;
};

// What one thread uses alone.
struct Own {
  ActivationBuffer activations;
  Buffer<float> row, scores, chunk, running;
  Buffer<uint32_t> weights;
  Buffer<uint8_t> decoded;
  SamplingBuffers sampling;
  Buffer<uint32_t> lanes;  // of attention in training
  Buffer<float> sums;
  std::vector<int64_t> starts;
};

// The best and the normaliser of a part of the vocabulary.
struct PartOfVocabulary {
  float maximum, sum;
  int64_t best;
};

constexpr int kTileQueries = 24;  // queries of a tile: as many tokens as fit with the heads that share a key head
constexpr int64_t kFewRows = 4;   // so few rows every thread rounds for itself: to meet would take longer

struct Workspace {
  Buffer<float> residual, qkv, attended, change, hidden, low_rank, partials;
  Buffer<uint32_t> queries;
  ActivationBuffer activations, hidden_activations;
  Buffer<PartOfVocabulary> parts;
  std::vector<QueryTile> tiles;
  std::vector<Sequence> sequences;
  Buffer<int32_t> last;  // (tokens,), of each token's sequence the number of the last token
  std::vector<Own> own;
  std::vector<Workspace> of_threads;  // for parts of a batch that a thread computes alone
  int64_t query_rows = 0;   // at most, of a tile and key head
  int64_t most_chunks = 0;  // of keys, of all tiles together

  // Cuts the batch into tiles of neighbouring positions, at most `group` queries for each token.
  void cut_tiles(const Batch& batch, int group) {
    const int most = std::max(1, kTileQueries / group);
    tiles.clear();
    most_chunks = 0;
    query_rows = static_cast<int64_t>(most) * group;
    for (int64_t token = 0; token < batch.tokens; ++token) {
      const bool continues = !tiles.empty() && tiles.back().tokens < most &&
                             tiles.back().sequence == batch.sequences[token] &&
                             tiles.back().position + tiles.back().tokens == batch.positions[token];
      if (continues) {
        ++tiles.back().tokens;
      } else {
        tiles.push_back({static_cast<int32_t>(token), 1, batch.sequences[token], batch.positions[token]});
      }
    }
    for (const QueryTile& tile : tiles) most_chunks += (tile.position + tile.tokens - 1) / kChunkKeys + 1;
  }

  void cut_sequences(const Batch& batch) {
    sequences.clear();
    for (int64_t token = 0; token < batch.tokens; ++token) {
      if (token == 0 || batch.sequences[token] != batch.sequences[token - 1]) sequences.push_back({token, 0});
      ++sequences.back().length;
    }
    int32_t* of_token = last.reserve(batch.tokens);
    for (const Sequence& one : sequences) std::fill_n(of_token + one.start, one.length, static_cast<int32_t>(one.length - 1));
  }

  // Whether there are too few tiles to keep the threads busy, and enough chunks.
  bool splits_chunks(int64_t kv_heads, int threads) const {
    const int64_t items = static_cast<int64_t>(tiles.size()) * kv_heads;
    return items < 4 * threads && most_chunks > static_cast<int64_t>(tiles.size());
  }

  void reserve_attention(const Layer& layer, const Batch& batch, int threads) {
    const int64_t width = layer.head_dim, rows = query_rows;
    queries.reserve(batch.tokens * layer.heads * width);
    if (splits_chunks(layer.kv_heads, threads)) {
      partials.reserve(most_chunks * layer.kv_heads * rows * Partial::row_floats(width));
    }
    for (Own& thread : own) {
      thread.scores.reserve(kQueryRows * kChunkKeys);
      thread.weights.reserve(kQueryRows * kChunkKeys);
      thread.chunk.reserve(rows * Partial::row_floats(width));
      thread.running.reserve(rows * Partial::row_floats(width));
      if (layer.cache_format == kCacheInt8) thread.decoded.reserve(kChunkKeys * width * 4);
    }
  }

  AttendScratch attend_scratch(int thread, int64_t head_dim) const {
    const Own& mine = own[thread];
    return {mine.scores.data(), mine.weights.data(), {mine.chunk.data(), head_dim}, {mine.running.data(), head_dim},
            mine.decoded.data()};
  }
};

}  // namespace lmworks
