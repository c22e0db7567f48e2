// Attention with a backward pass (Dao et al. 2022, algorithms 1 and 4), a tile of 64 queries times 96 keys at a time.
//
// Tiles of scores stand transposed, keys below each other and queries side by side in lanes: maxima and sums of a
// query's softmax are then sums of vectors, and what a query may see is two numbers in its lane, the first and the last
// key. Keys that no query of a tile sees are not computed. All sums are float32. An item, a key head of a sequence, is
// computed by one thread from beginning to end, so a result has the same bits whatever the number of threads.
#pragma once

#include <cmath>

#include "abi.h"
#include "tile_product.h"
#include "workspace.h"

namespace lmworks {

constexpr int kQueries = 64;
constexpr int kQueryVectors = kQueries / 16;
constexpr int kKeys = 96;

// Rows of one head of a tensor, from a place on.
inline NumberRows rows_of(const HeadsView& view, int64_t batch, int64_t head, int64_t place, int64_t bytes) {
  const int64_t offset = batch * view.batch_stride + head * view.head_stride + place * view.place_stride;
  return {static_cast<const uint8_t*>(view.data) + offset * bytes, view.place_stride * bytes};
}

// Which keys the queries of a tile see.
struct KeyRanges {
  alignas(64) float first[kQueries];
  alignas(64) float last[kQueries];
  int64_t lowest, highest;       // of keys that any query sees
  int64_t all_from, all_up_to;   // of keys that every query sees

  KeyRanges(const TrainedAttention& work, int64_t batch, int64_t start) {
    const int64_t count = std::min<int64_t>(kQueries, work.length - start);
    lowest = work.stored, highest = -1, all_from = 0, all_up_to = work.stored - 1;
    for (int64_t i = 0; i < kQueries; ++i) {
      first[i] = 1, last[i] = 0;  // nothing
      if (i >= count) continue;
      const int64_t at = batch * work.length + start + i;
      const int64_t from = work.first ? work.first[at] : 0, to = work.last ? work.last[at] : start + i;
      first[i] = static_cast<float>(from), last[i] = static_cast<float>(to);
      lowest = std::min(lowest, from), highest = std::max(highest, to);
      all_from = std::max(all_from, from), all_up_to = std::min(all_up_to, to);
    }
  }

  // The keys to compute, in whole pairs where there are as many.
  int64_t begin() const { return lowest / 2 * 2; }
  int64_t end(int64_t stored) const { return std::min(round_up(highest + 1, 2), stored); }
  bool all(int64_t key, int64_t count) const { return key >= all_from && key + count - 1 <= all_up_to; }
  // x where the key is seen, and 0.
  Floats where(int vector, int64_t key, Floats x) const {
    const Floats place = broadcast(static_cast<float>(key));
    return where_at_least(load(last + vector * 16), place, where_at_least(place, load(first + vector * 16), x));
  }
};

// Rows of sums times their factors, as rows of a tensor; `factor(row)` is a number.
template <class Element, class Factor>
inline void write_rows(const float* sums, int64_t count, int64_t width, NumberRows rows, Factor factor) {
  for (int64_t r = 0; r < count; ++r) {
    auto* to = const_cast<uint32_t*>(rows.row(r));
    const Floats times = broadcast(factor(r));
    for (int64_t i = 0; i < width; i += 16) Element::store(to, i, multiply(times, load(sums + r * width + i)));
  }
}

inline void shrink_rows(float* sums, int64_t count, int64_t width, const float* factors) {
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t i = r * width; i < (r + 1) * width; i += 16) {
      store(sums + i, multiply(broadcast(factors[r]), load(sums + i)));
    }
  }
}

struct Softmax {
  Floats maximum[kQueryVectors], sum[kQueryVectors];

  Softmax() {
    for (int c = 0; c < kQueryVectors; ++c) maximum[c] = broadcast(kHidden), sum[c] = zeros();
  }
};

// Takes a tile of scores (keys, 64), of which all are seen where kAll, into the softmax: weights out, as steps, and the
// factors by which what was added up so far shrinks to each query's new maximum. Keys beyond `count`, up to a whole
// lane, have no weight.
template <class Element, bool kAll>
inline void weigh_tile(
    const TrainedAttention& work, const KeyRanges& seen, int64_t key, int64_t count, const float* scores,
    uint32_t* weights, Softmax& softmax, float* factors) {
  const Floats scale = broadcast(work.scale), one = broadcast(1.0f), hidden = broadcast(kHidden);
  for (int c = 0; c < kQueryVectors; ++c) {
    const float* column = scores + c * 16;
    const Floats before = softmax.maximum[c];
    Floats maximum = before;
    for (int64_t k = 0; k < count; ++k) {
      Floats score = multiply(scale, load(column + k * kQueries));
      if constexpr (!kAll) {  // a score that is not seen becomes kHidden
        const Floats visible = seen.where(c, key + k, one);
        score = multiply_add(subtract(one, visible), hidden, seen.where(c, key + k, score));
      }
      maximum = larger(maximum, score);
    }
    const Floats factor = exponential(subtract(before, maximum)), lowered = subtract(zeros(), maximum);
    Floats sum = multiply(softmax.sum[c], factor);
    for (int64_t k = 0; k < count; k += 2) {
      Floats weight[2] = {zeros(), zeros()};
      for (int64_t i = 0; i < 2 && k + i < count; ++i) {
        weight[i] = exponential(multiply_add(scale, load(column + (k + i) * kQueries), lowered));
        if constexpr (!kAll) weight[i] = seen.where(c, key + k + i, weight[i]);
      }
      sum = add(sum, add(weight[0], weight[1]));
      store_steps<Element>(weights, kQueries, k, c * 16, weight[0], weight[1]);
    }
    store(factors + c * 16, factor);
    softmax.maximum[c] = maximum, softmax.sum[c] = sum;
  }
}

// The output of the heads that share a key head of a sequence, and, where they are wanted, the logarithms of their
// softmax's sums.
template <class Element, class Output = Element>
void attend_item(const TrainedAttention& work, int64_t batch, int64_t kv_head, Own& own) {
  constexpr int64_t kBytes = 4 / Element::kRun;
  const int64_t width = work.head_dim, steps = width / Element::kRun, group = work.heads / work.kv_heads;
  const int64_t of_values = round_up(work.stored, 2) / Element::kRun * width;
  uint32_t* values = own.lanes.reserve(of_values + work.stored * steps + kQueries * steps + kKeys * kQueries);
  uint32_t *keys = values + of_values, *query = keys + work.stored * steps, *weights = query + kQueries * steps;
  float* scores = own.sums.reserve(kKeys * kQueries + kQueries * width);
  float* attended = scores + kKeys * kQueries;
  pack_steps<Element>(rows_of(work.value, batch, kv_head, 0, kBytes), work.stored, 2, width, values);
  pack_rows(rows_of(work.key, batch, kv_head, 0, kBytes), work.stored, steps, keys);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t start = 0; start < work.length; start += kQueries) {
      const int64_t queries = std::min<int64_t>(kQueries, work.length - start);
      const KeyRanges seen(work, batch, start);
      pack_columns(rows_of(work.query, batch, head, start, kBytes), queries, kQueries, steps, query);
      std::fill_n(attended, kQueries * width, 0.0f);
      Softmax softmax;
      alignas(64) float factors[kQueries], maxima[kQueries], sums[kQueries];
      for (int64_t key = seen.begin(); key < seen.end(work.stored); key += kKeys) {
        const int64_t count = std::min<int64_t>(kKeys, seen.end(work.stored) - key);
        product<Element>({keys + key * steps, steps, 1}, count, {query, kQueries}, kQueries, steps, scores, kQueries,
                         false);
        const auto weigh = seen.all(key, count) ? weigh_tile<Element, true> : weigh_tile<Element, false>;
        weigh(work, seen, key, count, scores, weights, softmax, factors);
        shrink_rows(attended, queries, width, factors);
        product<Element>(transposed(weights, kQueries), queries, {values + key / Element::kRun * width, width}, width,
                         round_up(count, 2) / Element::kRun, attended, width, true);
      }
      for (int c = 0; c < kQueryVectors; ++c) {
        store(maxima + c * 16, softmax.maximum[c]);
        store(sums + c * 16, softmax.sum[c]);
      }
      float* log_sum = work.log_sum + (batch * work.heads + head) * work.length + start;
      for (int64_t i = 0; work.log_sum && i < queries; ++i) log_sum[i] = maxima[i] + std::log(sums[i]);
      write_rows<Output>(attended, queries, width, rows_of(work.output, batch, head, start, 4 / Output::kRun),
                         [&](int64_t r) { return 1 / sums[r]; });
    }
  }
}

// What the backward needs of one head's queries, tile by tile.
struct HeadOperands {
  uint32_t *query_columns, *query_steps, *gradient_columns, *gradient_steps;
  float *log_sum, *constant, *query_gradient;
};

// sum over dimensions of the output times its gradient: what a softmax subtracts from its gradients (the paper's D).
template <class Element>
inline float product_of_rows(const uint32_t* a, const uint32_t* b, int64_t steps) {
  Floats sum = zeros();
  for (int64_t step = 0; step < steps; step += 16) {
    if (steps - step >= 16) {
      sum = Element::dot(sum, load_lanes(a + step), load_lanes(b + step));
    } else {
      alignas(64) uint32_t rest[2][16] = {};
      std::copy_n(a + step, steps - step, rest[0]);
      std::copy_n(b + step, steps - step, rest[1]);
      sum = Element::dot(sum, load_lanes(rest[0]), load_lanes(rest[1]));
    }
  }
  return sum_of(sum);
}

template <class Element>
inline void prepare_head(const TrainedAttention& work, int64_t batch, int64_t head, const HeadOperands& to) {
  constexpr int64_t kBytes = 4 / Element::kRun;
  const int64_t width = work.head_dim, steps = width / Element::kRun;
  const NumberRows query = rows_of(work.query, batch, head, 0, kBytes);
  const NumberRows output = rows_of(work.output, batch, head, 0, kBytes);
  const NumberRows gradient = rows_of(work.output_gradient, batch, head, 0, kBytes);
  pack_steps<Element>(query, work.length, kQueries, width, to.query_steps);
  pack_steps<Element>(gradient, work.length, kQueries, width, to.gradient_steps);
  for (int64_t start = 0; start < work.length; start += kQueries) {
    const int64_t count = std::min<int64_t>(kQueries, work.length - start);
    const int64_t at = start * steps;
    pack_columns({query.first + start * query.stride, query.stride}, count, kQueries, steps, to.query_columns + at);
    pack_columns(
        {gradient.first + start * gradient.stride, gradient.stride}, count, kQueries, steps, to.gradient_columns + at);
  }
  const float* log_sum = work.log_sum + (batch * work.heads + head) * work.length;
  const int64_t padded = round_up(work.length, kQueries);
  for (int64_t i = 0; i < padded; ++i) {
    to.log_sum[i] = i < work.length ? log_sum[i] : 0;
    to.constant[i] = i < work.length ? product_of_rows<Element>(output.row(i), gradient.row(i), steps) : 0;
  }
  std::fill_n(to.query_gradient, padded * width, 0.0f);
}

// A tile of scores and of the weights' gradients (keys, 64 each), of which all are seen where kAll → weights, and the
// scores' gradients, as rows and as steps.
template <class Element, bool kAll>
inline void differentiate_tile(
    const TrainedAttention& work, const KeyRanges& seen, int64_t key, int64_t count, const float* scores,
    const float* weight_gradients, const float* log_sum, const float* constant, uint32_t* weights, uint32_t* rows,
    uint32_t* steps) {
  const Floats scale = broadcast(work.scale);
  for (int c = 0; c < kQueryVectors; ++c) {
    const Floats normaliser = subtract(zeros(), load(log_sum + c * 16)), offset = load(constant + c * 16);
    for (int64_t k = 0; k < count; k += 2) {
      Floats gradient[2] = {zeros(), zeros()};
      for (int64_t i = 0; i < 2 && k + i < count; ++i) {
        const int64_t at = (k + i) * kQueries + c * 16;
        Floats weight = exponential(multiply_add(scale, load(scores + at), normaliser));
        if constexpr (!kAll) weight = seen.where(c, key + k + i, weight);
        gradient[i] = multiply(weight, subtract(load(weight_gradients + at), offset));
        Element::store(weights, at, weight);
        Element::store(rows, at, gradient[i]);
      }
      store_steps<Element>(steps, kQueries, k, c * 16, gradient[0], gradient[1]);
    }
  }
}

// The gradients of a key head of a sequence and of the query heads that share it.
template <class Element>
void differentiate_item(const TrainedAttention& work, int64_t batch, int64_t kv_head, Own& own) {
  constexpr int64_t kBytes = 4 / Element::kRun, kTileSteps = kQueries / Element::kRun;
  const int64_t width = work.head_dim, steps = width / Element::kRun, group = work.heads / work.kv_heads;
  const int64_t padded = round_up(work.length, kQueries), of_head = padded * steps, of_rows = work.stored * steps;
  const int64_t of_keys = round_up(work.stored, 2) / Element::kRun * width, of_tile = kKeys * kQueries;
  uint32_t* keys_as_steps = own.lanes.reserve(of_keys + 2 * of_rows + 3 * of_tile + 4 * group * of_head);
  uint32_t *keys = keys_as_steps + of_keys, *values = keys + of_rows;
  uint32_t *weights = values + of_rows, *rows = weights + of_tile, *as_steps = rows + of_tile;
  float* scores = own.sums.reserve(2 * of_tile + 2 * kKeys * width + group * padded * (width + 2));
  float *weight_gradients = scores + of_tile, *key_sums = weight_gradients + of_tile;
  float *value_sums = key_sums + kKeys * width, *of_heads = value_sums + kKeys * width;
  const auto operands = [&](int64_t g) {
    uint32_t* lanes = as_steps + of_tile + 4 * g * of_head;
    float* sums = of_heads + g * padded * (width + 2);
    return HeadOperands{lanes, lanes + of_head, lanes + 2 * of_head, lanes + 3 * of_head,
                        sums,  sums + padded,   sums + 2 * padded};
  };
  const NumberRows key_rows = rows_of(work.key, batch, kv_head, 0, kBytes);
  pack_steps<Element>(key_rows, work.stored, 2, width, keys_as_steps);
  pack_rows(key_rows, work.stored, steps, keys);
  pack_rows(rows_of(work.value, batch, kv_head, 0, kBytes), work.stored, steps, values);
  for (int64_t g = 0; g < group; ++g) prepare_head<Element>(work, batch, kv_head * group + g, operands(g));
  for (int64_t tile = 0; tile < work.stored; tile += kKeys) {
    const int64_t in_tile = std::min<int64_t>(kKeys, work.stored - tile);
    std::fill_n(key_sums, 2 * kKeys * width, 0.0f);
    for (int64_t start = 0; start < work.length; start += kQueries) {
      const KeyRanges seen(work, batch, start);
      const int64_t key = std::max(tile, seen.begin());
      const int64_t count = std::min(tile + in_tile, seen.end(work.stored)) - key;
      if (count <= 0) continue;
      for (int64_t g = 0; g < group; ++g) {
        const HeadOperands of = operands(g);
        const Right queries{of.query_columns + start * steps, kQueries};
        const Right gradients{of.gradient_columns + start * steps, kQueries};
        product<Element>({keys + key * steps, steps, 1}, count, queries, kQueries, steps, scores, kQueries, false);
        product<Element>({values + key * steps, steps, 1}, count, gradients, kQueries, steps, weight_gradients,
                         kQueries, false);
        const auto differentiate =
            seen.all(key, count) ? differentiate_tile<Element, true> : differentiate_tile<Element, false>;
        differentiate(work, seen, key, count, scores, weight_gradients, of.log_sum + start, of.constant + start,
                      weights, rows, as_steps);
        const int64_t at = start / Element::kRun * width, sums = (key - tile) * width;
        product<Element>({weights, kTileSteps, 1}, count, {of.gradient_steps + at, width}, width, kTileSteps,
                         value_sums + sums, width, true);
        product<Element>({rows, kTileSteps, 1}, count, {of.query_steps + at, width}, width, kTileSteps, key_sums + sums,
                         width, true);
        product<Element>(transposed(as_steps, kQueries), kQueries,
                         {keys_as_steps + key / Element::kRun * width, width}, width,
                         round_up(count, 2) / Element::kRun, of.query_gradient + start * width, width, true);
      }
    }
    write_rows<Element>(key_sums, in_tile, width, rows_of(work.key_gradient, batch, kv_head, tile, kBytes),
                        [&](int64_t) { return work.scale; });
    write_rows<Element>(value_sums, in_tile, width, rows_of(work.value_gradient, batch, kv_head, tile, kBytes),
                        [](int64_t) { return 1.0f; });
  }
  for (int64_t g = 0; g < group; ++g) {
    write_rows<Element>(operands(g).query_gradient, work.length, width,
                        rows_of(work.query_gradient, batch, kv_head * group + g, 0, kBytes),
                        [&](int64_t) { return work.scale; });
  }
}

// Shares the key heads of all sequences out among the threads.
template <class Item>
void for_each_key_head(Team& team, const TrainedAttention& work, Item item) {
  team.share(work.batch * work.kv_heads, [&](int64_t number) { item(number / work.kv_heads, number % work.kv_heads); });
}

}  // namespace lmworks
