// Attention without pages, of an encoder or of a decoder that pools: queries see the keys and values of their own
// sequence in the batch, which is computed as in training (trained_attention.h).
#pragma once

#include "attention.h"
#include "trained_attention.h"

namespace lmworks {

// One sequence and key head. `lanes` (tokens, heads + 2 kv_heads, head_dim), out (tokens, heads, head_dim).
template <class Element>
inline void attend_sequence(
    const Layer& layer, Workspace& work, const Sequence& sequence, int64_t head, uint32_t* lanes, float* out, Own& own) {
  const int64_t width = layer.head_dim, columns = (layer.heads + 2 * layer.kv_heads) * width;
  const auto part = [&](int64_t first_head) {
    return HeadsView{lanes + (sequence.start * columns + first_head * width) / Element::kRun, 0, width, columns};
  };
  TrainedAttention problem{};
  problem.query = part(0);
  problem.key = part(layer.heads);
  problem.value = part(layer.heads + layer.kv_heads);
  problem.output = {out + sequence.start * layer.heads * width, 0, width, layer.heads * width};
  problem.last = layer.bidirectional ? work.last.data() + sequence.start : nullptr;
  problem.batch = 1;
  problem.heads = layer.heads;
  problem.kv_heads = layer.kv_heads;
  problem.length = problem.stored = sequence.length;
  problem.head_dim = width;
  problem.scale = layer.scale;
  attend_item<Element, FloatElement>(problem, 0, head, own);
}

// qkv (tokens, (heads + 2 kv_heads) * head_dim), whose queries and keys are normed and rotated in place;
// out (tokens, heads * head_dim).
template <class Element>
inline void attend_batch(Team& team, Workspace& work, const Layer& layer, const Batch& batch, float* qkv, float* out) {
  const int64_t width = layer.head_dim, columns = (layer.heads + 2 * layer.kv_heads) * width;
  uint32_t* lanes = Element::kRun == 1 ? reinterpret_cast<uint32_t*>(qkv) : work.queries.data();
  team.share(batch.tokens, [&](int64_t token) {
    float* row = qkv + token * columns;
    for (int head = 0; head < layer.heads + layer.kv_heads; ++head) {
      const Norm& norm = head < layer.heads ? layer.query_norm : layer.key_norm;
      norm_and_rotate(row + head * width, layer, norm, batch.positions[token]);
    }
    if constexpr (Element::kRun > 1) {
      uint32_t* to = lanes + token * columns / Element::kRun;
      for (int64_t column = 0; column < columns; column += 16) Element::store(to, column, load(row + column));
    }
  });
  team.share(static_cast<int64_t>(work.sequences.size()) * layer.kv_heads, [&](int64_t item) {
    const Sequence& sequence = work.sequences[item / layer.kv_heads];
    attend_sequence<Element>(layer, work, sequence, item % layer.kv_heads, lanes, out, work.own[team.thread]);
  });
}

// Memory for `attend_either`.
inline void reserve_attention(Workspace& work, const Layer& layer, const Batch& batch, int threads) {
  if (layer.page_count > 0) {
    work.reserve_attention(layer, batch, threads);
  } else if (layer.cache_format != kCacheFloat32) {
    work.queries.reserve(batch.tokens * (layer.heads + 2 * layer.kv_heads) * layer.head_dim / 2);
  }
}

// `attend` of attention.h, or what takes its place where a layer has no pages.
inline void attend_either(Team& team, Workspace& work, const Layer& layer, const Batch& batch, float* qkv, float* out) {
  if (layer.page_count > 0) {
    attend(team, work, layer, batch, qkv, out);
  } else if (layer.cache_format == kCacheFloat32) {
    attend_batch<FloatElement>(team, work, layer, batch, qkv, out);
  } else {
    attend_batch<PairElement>(team, work, layer, batch, qkv, out);
  }
}

}  // namespace lmworks
