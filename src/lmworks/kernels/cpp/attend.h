// Attention of a few queries to the pages of their sequence: softmax(scale q k^T) v, a chunk of 128 keys at a time.
//
// Each chunk gives for every query its own maximum, the sum of its exponentials and the values they weigh; chunks are
// then merged one after the other (Milakov & Gimelshein 2018; Dao et al. 2022, section 3.1). Chunks begin at multiples
// of 128 keys, so a query's result has the same bits whatever the batch, and however the chunks are shared out.
//
// All of it is computed in lanes of 4 bytes, either one float32 or a pair of bfloat16 (`Element`): a step of a key page
// holds the lanes of 16 keys, a step of a value page the lanes of head_dim dimensions.
#pragma once

#include <algorithm>
#include <type_traits>

#include "page_layout.h"
#include "vector_math.h"

namespace lmworks {

constexpr int kChunkPages = 8;
constexpr int kChunkKeys = kChunkPages * kPageTokens;
constexpr int kQueryRows = 6;         // queries whose sums are in registers at once
constexpr float kHidden = -1e30f;     // the score of a key that is not seen, and the maximum where none is

struct PairElement {
  static constexpr int kRun = 2;
  static Floats dot(Floats sum, Lanes a, Lanes b) { return dot_pairs(sum, a, b); }
  static void store(uint32_t* lanes, int64_t number, Floats x) {  // numbers: of floats, a multiple of 16
    store_bfloat16(reinterpret_cast<uint16_t*>(lanes) + number, x);
  }
};

struct FloatElement {
  static constexpr int kRun = 1;
  static Floats dot(Floats sum, Lanes a, Lanes b) { return multiply_add(lanes_as_floats(a), lanes_as_floats(b), sum); }
  static void store(uint32_t* lanes, int64_t number, Floats x) {
    lmworks::store(reinterpret_cast<float*>(lanes) + number, x);
  }
};

// Calls `work` with std::integral_constant<int, n>, 1 <= n <= kMost.
template <int kMost, class Work>
inline void with_constant(int n, Work work) {
  if constexpr (kMost == 1) {
    work(std::integral_constant<int, 1>());
  } else if (n == kMost) {
    work(std::integral_constant<int, kMost>());
  } else {
    with_constant<kMost - 1>(n, work);
  }
}

// Queries of one key head: for each of `tokens` neighbouring tokens the heads that share it.
struct QueryRows {
  const uint32_t* queries;  // (tokens, heads, steps) lanes, of the first token and the first of these heads
  int64_t token_stride;     // in lanes
  int64_t steps;            // lanes of a query
  int group;                // heads that share the key head
  int count;                // rows: tokens times group
  int64_t first_position;
  const Layer* layer;
  float softcap;            // 0: none

  const uint32_t* row(int r) const { return queries + r / group * token_stride + r % group * steps; }
  int64_t position(int r) const { return first_position + r / group; }
  int64_t first_seen(int r) const { return lmworks::first_seen(*layer, position(r)); }
  int64_t last_position() const { return position(count - 1); }
};

// The pages of a chunk from `first` on, as lanes; for int8 with the scales of their tokens.
struct ChunkPages {
  int64_t first;
  int count;
  const uint8_t* keys[kChunkPages];
  const uint8_t* values[kChunkPages];
  const float* key_scales[kChunkPages];  // null without scales
  const float* value_scales[kChunkPages];
};

// A query's share of the softmax so far: `head_dim` weighted values, then the maximum and the sum.
struct Partial {
  float* rows;
  int64_t head_dim;

  static int64_t row_floats(int64_t head_dim) { return head_dim + 16; }
  float* values(int r) const { return rows + r * row_floats(head_dim); }
  float& maximum(int r) const { return values(r)[head_dim]; }
  float& sum(int r) const { return values(r)[head_dim + 1]; }

  void clear(int count) const {
    for (int r = 0; r < count; ++r) {
      std::fill_n(values(r), head_dim, 0.0f);
      maximum(r) = kHidden;
      sum(r) = 0;
    }
  }
};

// What a thread needs for a chunk; `rows` queries at most.
struct AttendScratch {
  float* scores;      // (rows, 128)
  uint32_t* weights;  // (rows, 128) lanes at most
  Partial chunk, running;
  uint8_t* decoded;  // keys and values of a chunk of int8 pages, as pairs
};

// scores (R, 16 P): R queries times the keys of P pages.
template <class Element, int R, int P>
inline void score_pages(const QueryRows& rows, int first_row, const uint8_t* const* keys, float* scores) {
  const uint32_t* query[R];
  for (int r = 0; r < R; ++r) query[r] = rows.row(first_row + r);
  Floats sums[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) sums[r][p] = zeros();
  }
  for (int64_t step = 0; step < rows.steps; ++step) {
    Lanes key[P];
    for (int p = 0; p < P; ++p) key[p] = load_lanes(keys[p] + step * kPageTokens * 4);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Lanes lane = broadcast_lane(query[r] + step);
      for (int p = 0; p < P; ++p) sums[r][p] = Element::dot(sums[r][p], key[p], lane);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) store(scores + r * kChunkKeys + p * kPageTokens, sums[r][p]);
  }
}

// Few queries have few sums: several pages at once keep the multipliers busy.
template <class Element, int R>
inline void score_chunk(const QueryRows& rows, int first_row, const ChunkPages& pages, float* scores) {
  constexpr int kTogether = R <= 3 ? 4 : 2;
  int page = 0;
  for (; page + kTogether <= pages.count; page += kTogether) {
    score_pages<Element, R, kTogether>(rows, first_row, pages.keys + page, scores + page * kPageTokens);
  }
  for (; page < pages.count; ++page) {
    score_pages<Element, R, 1>(rows, first_row, pages.keys + page, scores + page * kPageTokens);
  }
}

// The lanes of a page that a query sees.
struct Seen {
  int begin, end;

  Seen(const QueryRows& rows, int r, int64_t page) {
    const int64_t base = page * kPageTokens;
    begin = static_cast<int>(std::clamp<int64_t>(rows.first_seen(r) - base, 0, kPageTokens));
    end = static_cast<int>(std::clamp<int64_t>(rows.position(r) + 1 - base, 0, kPageTokens));
  }
  bool all() const { return begin == 0 && end == kPageTokens; }
};

// From the scores of one query to its weights, their maximum and their sum.
template <class Element>
inline void weigh(
    const QueryRows& rows, int r, const ChunkPages& pages, float* scores, uint32_t* weights, Partial out) {
  Floats largest = broadcast(kHidden);
  for (int page = 0; page < pages.count; ++page) {
    Floats score = load(scores + page * kPageTokens);
    if (pages.key_scales[page]) score = multiply(score, load(pages.key_scales[page]));
    if (rows.softcap > 0) score = soft_cap(score, rows.softcap);
    const Seen seen(rows, r, pages.first + page);
    if (!seen.all()) score = keep_lanes(score, seen.begin, seen.end, broadcast(kHidden));
    largest = larger(largest, score);
    store(scores + page * kPageTokens, score);
  }
  out.maximum(r) = largest_of(largest);
  const Floats maximum = broadcast(out.maximum(r));
  Floats sum = zeros();
  for (int page = 0; page < pages.count; ++page) {
    Floats weight = exponential(subtract(load(scores + page * kPageTokens), maximum));
    const Seen seen(rows, r, pages.first + page);
    if (!seen.all()) weight = keep_lanes(weight, seen.begin, seen.end, zeros());
    sum = add(sum, weight);
    if (pages.value_scales[page]) weight = multiply(weight, load(pages.value_scales[page]));
    Element::store(weights, page * kPageTokens, weight);
  }
  out.sum(r) = sum_of(sum);
}

// out[r][dimension ... + 16 D]: R rows of weights times the values of a chunk.
template <class Element, int R, int D>
inline void sum_values(
    const ChunkPages& pages, const uint32_t* weights, int64_t dimension, int first_row, Partial out) {
  constexpr int kSteps = kPageTokens / Element::kRun;
  Floats sums[R][D];
  for (int r = 0; r < R; ++r) {
    for (int d = 0; d < D; ++d) sums[r][d] = zeros();
  }
  for (int page = 0; page < pages.count; ++page) {
    for (int step = 0; step < kSteps; ++step) {
      const uint8_t* values = pages.values[page] + (step * out.head_dim + dimension) * 4;
      Lanes value[D];
      for (int d = 0; d < D; ++d) value[d] = load_lanes(values + d * 64);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const Lanes weight = broadcast_lane(weights + r * kChunkKeys + page * kSteps + step);
        for (int d = 0; d < D; ++d) sums[r][d] = Element::dot(sums[r][d], value[d], weight);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int d = 0; d < D; ++d) store(out.values(first_row + r) + dimension + d * 16, sums[r][d]);
  }
}

// All the rows of a tile and one chunk of keys.
template <class Element>
inline void attend_chunk(const QueryRows& rows, const ChunkPages& pages, const AttendScratch& scratch, Partial out) {
  for (int first = 0; first < rows.count; first += kQueryRows) {
    const int count = std::min(kQueryRows, rows.count - first);
    with_constant<kQueryRows>(count, [&](auto constant) {
      constexpr int kRows = decltype(constant)::value;
      score_chunk<Element, kRows>(rows, first, pages, scratch.scores);
      for (int r = 0; r < kRows; ++r) {
        weigh<Element>(rows, first + r, pages, scratch.scores + r * kChunkKeys, scratch.weights + r * kChunkKeys, out);
      }
      int64_t dimension = 0;
      for (; dimension + 64 <= out.head_dim; dimension += 64) {
        sum_values<Element, kRows, 4>(pages, scratch.weights, dimension, first, out);
      }
      for (; dimension < out.head_dim; dimension += 16) {
        sum_values<Element, kRows, 1>(pages, scratch.weights, dimension, first, out);
      }
    });
  }
}

// Takes the next chunk into the running softmax: both are scaled to the larger of the two maxima.
inline void merge(Partial running, Partial chunk, int count) {
  for (int r = 0; r < count; ++r) {
    const float maximum = std::max(running.maximum(r), chunk.maximum(r));
    const Floats old_factor = exponential(broadcast(running.maximum(r) - maximum));
    const Floats new_factor = exponential(broadcast(chunk.maximum(r) - maximum));
    for (int64_t d = 0; d < running.head_dim; d += 16) {
      const Floats added = multiply(new_factor, load(chunk.values(r) + d));
      store(running.values(r) + d, multiply_add(old_factor, load(running.values(r) + d), added));
    }
    float factors[2][16];
    store(factors[0], old_factor);
    store(factors[1], new_factor);
    running.sum(r) = factors[0][0] * running.sum(r) + factors[1][0] * chunk.sum(r);
    running.maximum(r) = maximum;
  }
}

}  // namespace lmworks
