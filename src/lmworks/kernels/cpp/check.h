// Whether a batch can be computed with a model: an index that is out of range would read foreign memory.
#pragma once

#include <algorithm>

#include "abi.h"
#include "page_layout.h"

namespace lmworks {

// How many positions all tables of the model and the batch reach.
inline int64_t position_limit(const Model& model, const Batch& batch) {
  int64_t limit = model.positions != nullptr ? model.position_count : INT32_MAX;
  for (int64_t i = 0; i < model.layer_count; ++i) {
    const Layer& layer = model.layers[i];
    if (layer.cosine != nullptr) limit = std::min<int64_t>(limit, layer.rotation_length);
    if (layer.page_count > 0) limit = std::min(limit, batch.tables[layer.group].length * kPageTokens);
  }
  return limit;
}

// The pages that the token's queries read and its key and value are written to.
inline Error check_pages(const Layer& layer, const Batch& batch, int64_t token) {
  const Table& table = batch.tables[layer.group];
  const int64_t position = batch.positions[token];
  const int64_t seen = first_seen(layer, position);
  const int32_t* pages = table.pages + batch.sequences[token] * table.length;
  for (int64_t page = seen / kPageTokens; page <= position / kPageTokens; ++page) {
    if (pages[page] < 0 || pages[page] >= layer.page_count) return kBadPage;
  }
  return kNone;
}

inline Error check_token(const Model& model, const Batch& batch, int64_t token, int64_t limit) {
  if (batch.ids[token] < 0 || batch.ids[token] >= model.embedding.rows) return kBadToken;
  if (batch.sequences[token] < 0 || batch.sequences[token] >= batch.sequence_count) return kBadSequence;
  if (batch.positions[token] < 0 || batch.positions[token] >= limit) return kBadPosition;
  if (batch.adapters != nullptr && batch.adapters[token] >= model.adapter_count) return kBadAdapter;
  return kNone;
}

// The pages that all tokens need; sets `error_at` to the token that is wrong.
inline Error check_all_pages(const Layer& layer, Batch& batch) {
  for (batch.error_at = 0; batch.error_at < batch.tokens; ++batch.error_at) {
    // Where the next token sees all that this one sees, it is enough to check the next.
    const int64_t next = batch.error_at + 1;
    const bool covered = layer.window == 0 && next < batch.tokens &&
                         batch.sequences[next] == batch.sequences[batch.error_at] &&
                         batch.positions[next] > batch.positions[batch.error_at];
    if (covered) continue;
    const Error error = check_pages(layer, batch, batch.error_at);
    if (error != kNone) return error;
  }
  return kNone;
}

// Layers that follow each other mostly read the same pages.
inline bool like_the_one_before(const Model& model, int64_t layer) {
  if (layer == 0) return false;
  const Layer &one = model.layers[layer - 1], &other = model.layers[layer];
  return one.group == other.group && one.window == other.window && one.first == other.first &&
         one.page_count == other.page_count;
}

// Of a whole model; sets `error_at` to the token, or the row for kBadWanted, that is wrong.
inline Error check(const Model& model, Batch& batch) {
  batch.error_at = 0;
  for (int64_t i = 0; i < model.layer_count; ++i) {
    const Layer& layer = model.layers[i];
    if (layer.page_count > 0 && (layer.group < 0 || layer.group >= batch.group_count)) return kBadPage;
  }
  const int64_t limit = position_limit(model, batch);
  for (; batch.error_at < batch.tokens; ++batch.error_at) {
    const Error error = check_token(model, batch, batch.error_at, limit);
    if (error != kNone) return error;
  }
  for (int64_t i = 0; i < model.layer_count; ++i) {
    if (model.layers[i].page_count == 0 || like_the_one_before(model, i)) continue;
    const Error error = check_all_pages(model.layers[i], batch);
    if (error != kNone) return error;
  }
  for (batch.error_at = 0; batch.error_at < batch.rows; ++batch.error_at) {
    const int32_t wanted = batch.wanted[batch.error_at];
    if (wanted < 0 || wanted >= batch.tokens) return kBadWanted;
  }
  return kNone;
}

// Of one layer's attention.
inline Error check_attention(const Layer& layer, Batch& batch) {
  Model alone{};
  alone.layers = &layer;
  alone.layer_count = 1;
  const int64_t limit = position_limit(alone, batch);
  for (batch.error_at = 0; batch.error_at < batch.tokens; ++batch.error_at) {
    const int64_t token = batch.error_at;
    if (batch.sequences[token] < 0 || batch.sequences[token] >= batch.sequence_count) return kBadSequence;
    if (batch.positions[token] < 0 || batch.positions[token] >= limit) return kBadPosition;
  }
  return layer.page_count > 0 ? check_all_pages(layer, batch) : kNone;
}

}  // namespace lmworks
