// The attention of a layer between its projections: norms and rotates queries and keys, stores keys and values in their
// pages, and lets the queries attend to what is stored.
#pragma once

#include <vector>

#include "attend.h"
#include "norm.h"
#include "team.h"
#include "workspace.h"

namespace lmworks {

// Su et al. 2021, with the two dimensions of a plane half of `rotated` apart; what is not rotated stays.
inline void rotate(float* head, const Layer& layer, int64_t position) {
  const int half = layer.rotated / 2;
  const float* cosine = layer.cosine + position * layer.rotated;
  const float* sine = layer.sine + position * layer.rotated;
  int d = 0;
  for (; d + 16 <= half; d += 16) {
    const Floats first = load(head + d), second = load(head + d + half);
    const Floats turned = multiply(second, load(sine + d)), returned = multiply(first, load(sine + d + half));
    store(head + d, subtract(multiply(first, load(cosine + d)), turned));
    store(head + d + half, add(multiply(second, load(cosine + d + half)), returned));
  }
  for (; d < half; ++d) {
    const float first = head[d], second = head[d + half];
    head[d] = first * cosine[d] - second * sine[d];
    head[d + half] = second * cosine[d + half] + first * sine[d + half];
  }
}

inline void norm_and_rotate(float* head, const Layer& layer, const Norm& norm, int64_t position) {
  if (norm.weight != nullptr) normalise(head, layer.head_dim, norm, head);
  if (layer.cosine != nullptr) rotate(head, layer, position);
}

// One token and key head: stores the key and the value, and the queries that share the key head as scaled lanes.
inline void store_token_head(
    const Layer& layer, const Batch& batch, int64_t token, int head, float* qkv, uint32_t* queries) {
  const PageLayout layout(layer);
  const int group = layer.heads / layer.kv_heads;
  const int64_t width = layer.head_dim, position = batch.positions[token];
  const Table& table = batch.tables[layer.group];
  const int64_t page = table.pages[batch.sequences[token] * table.length + position / kPageTokens];
  const int slot = static_cast<int>(position % kPageTokens);
  float* row = qkv + token * (layer.heads + 2 * layer.kv_heads) * width;
  float* key = row + (layer.heads + head) * width;
  norm_and_rotate(key, layer, layer.key_norm, position);
  store_key_and_value(layout, page, head, slot, key, key + layer.kv_heads * width);
  for (int query_head = head * group; query_head < (head + 1) * group; ++query_head) {
    float* query = row + query_head * width;
    norm_and_rotate(query, layer, layer.query_norm, position);
    uint32_t* lanes = queries + (token * layer.heads + query_head) * width / run_of(layer.cache_format);
    for (int64_t d = 0; d < width; d += 16) {
      const Floats scaled = multiply(load(query + d), broadcast(layer.scale));
      if (layer.cache_format == kCacheFloat32) {
        FloatElement::store(lanes, d, scaled);
      } else {
        PairElement::store(lanes, d, scaled);
      }
    }
  }
}

// A tile's queries of one key head.
inline QueryRows rows_of(const Layer& layer, const QueryTile& tile, int head, const uint32_t* queries) {
  QueryRows rows;
  rows.steps = layer.head_dim / run_of(layer.cache_format);
  rows.group = layer.heads / layer.kv_heads;
  rows.token_stride = layer.heads * rows.steps;
  rows.queries = queries + tile.start * rows.token_stride + head * rows.group * rows.steps;
  rows.count = tile.tokens * rows.group;
  rows.first_position = tile.position;
  rows.layer = &layer;
  rows.softcap = layer.softcap;
  return rows;
}

// int8 numbers as pairs of bfloat16, which hold them exactly.
inline const uint8_t* decode_int8(const uint8_t* numbers, int64_t count, uint8_t* to) {
  uint16_t* pairs = reinterpret_cast<uint16_t*>(to);
  for (int64_t i = 0; i < count; i += 16) {
    store_bfloat16(pairs + i, to_floats(load_int8(reinterpret_cast<const int8_t*>(numbers) + i)));
  }
  return to;
}

// The pages of chunk number `chunk` that some row of the tile sees.
inline ChunkPages pages_of(
    const Layer& layer, const Batch& batch, const QueryTile& tile, int head, const QueryRows& rows, int64_t chunk,
    uint8_t* decoded) {
  const PageLayout layout(layer);
  const Table& table = batch.tables[layer.group];
  const int32_t* numbers = table.pages + tile.sequence * table.length;
  ChunkPages pages;
  pages.first = std::max<int64_t>(chunk * kChunkPages, rows.first_seen(0) / kPageTokens);
  const int64_t end = std::min<int64_t>((chunk + 1) * kChunkPages, rows.last_position() / kPageTokens + 1);
  pages.count = static_cast<int>(end - pages.first);
  const int64_t numbers_of_page = kPageTokens * layout.head_dim;
  for (int i = 0; i < pages.count; ++i) {
    uint8_t* keys = layout.keys(numbers[pages.first + i], head);
    uint8_t* values = layout.values(numbers[pages.first + i], head);
    const bool coded = layout.format == kCacheInt8;
    pages.key_scales[i] = coded ? layout.scales(keys) : nullptr;
    pages.value_scales[i] = coded ? layout.scales(values) : nullptr;
    uint8_t* place = decoded + 4 * i * numbers_of_page;
    pages.keys[i] = coded ? decode_int8(keys, numbers_of_page, place) : keys;
    pages.values[i] = coded ? decode_int8(values, numbers_of_page, place + 2 * numbers_of_page) : values;
  }
  return pages;
}

inline void attend_tile_chunk(
    const Layer& layer, const Batch& batch, const QueryTile& tile, int head, const uint32_t* queries, int64_t chunk,
    const AttendScratch& scratch, Partial out) {
  const QueryRows rows = rows_of(layer, tile, head, queries);
  const ChunkPages pages = pages_of(layer, batch, tile, head, rows, chunk, scratch.decoded);
  if (layer.cache_format == kCacheFloat32) {
    attend_chunk<FloatElement>(rows, pages, scratch, out);
  } else {
    attend_chunk<PairElement>(rows, pages, scratch, out);
  }
}

// Divides by the sums: out (tokens, heads * head_dim).
inline void finish_tile(const Layer& layer, const QueryTile& tile, int head, Partial running, float* out) {
  const int group = layer.heads / layer.kv_heads;
  for (int r = 0; r < tile.tokens * group; ++r) {
    float* place = out + ((tile.start + r / group) * layer.heads + head * group + r % group) * layer.head_dim;
    const Floats inverse = broadcast(1.0f / running.sum(r));
    for (int64_t d = 0; d < layer.head_dim; d += 16) store(place + d, multiply(load(running.values(r) + d), inverse));
  }
}

struct ChunkRange {
  int64_t first, end;
  int64_t count() const { return end - first; }
};

inline ChunkRange chunks_of(const Layer& layer, const QueryTile& tile) {
  return {first_seen(layer, tile.position) / kChunkKeys, (tile.position + tile.tokens - 1) / kChunkKeys + 1};
}

// Every tile and key head is an item.
inline void attend_tiles(
    Team& team, Workspace& work, const Layer& layer, const Batch& batch, const uint32_t* queries, float* out) {
  const int64_t tiles = static_cast<int64_t>(work.tiles.size());
  team.share(tiles * layer.kv_heads, [&](int64_t item) {
    const QueryTile& tile = work.tiles[item / layer.kv_heads];
    const int head = static_cast<int>(item % layer.kv_heads), rows = tile.tokens * (layer.heads / layer.kv_heads);
    const AttendScratch scratch = work.attend_scratch(team.thread, layer.head_dim);
    const ChunkRange chunks = chunks_of(layer, tile);
    scratch.running.clear(rows);
    for (int64_t chunk = chunks.first; chunk < chunks.end; ++chunk) {
      attend_tile_chunk(layer, batch, tile, head, queries, chunk, scratch, scratch.chunk);
      merge(scratch.running, scratch.chunk, rows);
    }
    finish_tile(layer, tile, head, scratch.running, out);
  });
}

// Few tiles with many keys: every chunk is an item (Dao et al. 2023, "Flash-Decoding"), merged in the same order.
inline void attend_chunks(
    Team& team, Workspace& work, const Layer& layer, const Batch& batch, const uint32_t* queries, float* out) {
  const int64_t tiles = static_cast<int64_t>(work.tiles.size());
  std::vector<int64_t>& starts = work.own[team.thread].starts;  // of each tile's chunks, among those of one head
  starts.assign(1, 0);
  for (const QueryTile& tile : work.tiles) starts.push_back(starts.back() + chunks_of(layer, tile).count());
  const auto partial = [&](int64_t piece, int64_t head) {
    const int64_t floats = work.query_rows * Partial::row_floats(layer.head_dim);
    return Partial{work.partials.data() + (piece * layer.kv_heads + head) * floats, layer.head_dim};
  };
  team.share(starts.back() * layer.kv_heads, [&](int64_t item) {
    const int64_t piece = item / layer.kv_heads;
    const int head = static_cast<int>(item % layer.kv_heads);
    const int64_t tile = std::upper_bound(starts.begin(), starts.end(), piece) - starts.begin() - 1;
    const int64_t chunk = chunks_of(layer, work.tiles[tile]).first + piece - starts[tile];
    const AttendScratch scratch = work.attend_scratch(team.thread, layer.head_dim);
    attend_tile_chunk(layer, batch, work.tiles[tile], head, queries, chunk, scratch, partial(piece, head));
  });
  team.share(tiles * layer.kv_heads, [&](int64_t item) {
    const int64_t tile = item / layer.kv_heads;
    const int head = static_cast<int>(item % layer.kv_heads);
    const int rows = work.tiles[tile].tokens * (layer.heads / layer.kv_heads);
    const Partial running = work.attend_scratch(team.thread, layer.head_dim).running;
    running.clear(rows);
    for (int64_t piece = starts[tile]; piece < starts[tile + 1]; ++piece) merge(running, partial(piece, head), rows);
    finish_tile(layer, work.tiles[tile], head, running, out);
  });
}

// qkv (tokens, (heads + 2 kv_heads) * head_dim), whose queries and keys are normed and rotated in place;
// out (tokens, heads * head_dim).
inline void attend(Team& team, Workspace& work, const Layer& layer, const Batch& batch, float* qkv, float* out) {
  uint32_t* queries = work.queries.data();
  team.share(batch.tokens * layer.kv_heads, [&](int64_t item) {
    const int head = static_cast<int>(item % layer.kv_heads);
    store_token_head(layer, batch, item / layer.kv_heads, head, qkv, queries);
  });
  if (work.splits_chunks(layer.kv_heads, team.size)) {
    attend_chunks(team, work, layer, batch, queries, out);
  } else {
    attend_tiles(team, work, layer, batch, queries, out);
  }
}

}  // namespace lmworks
