// Attention with a backward pass (Dao et al. 2022, algorithms 1 and 4), a tile of 64 queries times 96 keys at a time.
//
// Tiles of scores stand transposed, keys below each other and queries side by side in lanes: maxima and sums of a
// query's softmax are then sums of vectors, and what a query may see is two numbers in its lane, the first and the last
// key. A tile in which nothing is seen is not computed. All sums are float32. An item, a key head of a sequence, is
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
struct SeenKeys {
  alignas(64) float first[kQueries];
  alignas(64) float last[kQueries];
  int64_t lowest, highest;       // of keys that any query sees
  int64_t all_from, all_up_to;   // of keys that every query sees

  SeenKeys(const TrainedAttention& work, int64_t batch, int64_t start) {
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

  bool none(int64_t key, int64_t count) const { return key > highest || key + count - 1 < lowest; }
  bool all(int64_t key, int64_t count) const { return key >= all_from && key + count - 1 <= all_up_to; }
  // x where the key is seen, and 0.
  Floats where(int vector, int64_t key, Floats x) const {
    const Floats place = broadcast(static_cast<float>(key));
    return where_at_least(load(last + vector * 16), place, where_at_least(place, load(first + vector * 16), x));
  }
};

template <class Element>
inline void write_numbers(uint8_t* to, const float* numbers, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) Element::store(reinterpret_cast<uint32_t*>(to), i, load(numbers + i));
}

// The columns of `sums` (width, 64), times their factors, as rows of a tensor.
template <class Element>
inline void write_columns(const float* sums, int64_t width, const float* factors, NumberRows rows, int64_t count) {
  alignas(64) float row[kMostWidth];
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t i = 0; i < width; ++i) row[i] = sums[i * kQueries + r] * factors[r];
    write_numbers<Element>(const_cast<uint8_t*>(rows.first) + r * rows.stride, row, width);
  }
}

struct Softmax {
  Floats maximum[kQueryVectors], sum[kQueryVectors];

  Softmax() {
    for (int c = 0; c < kQueryVectors; ++c) maximum[c] = broadcast(kHidden), sum[c] = zeros();
  }
};

// Takes a tile of scores (keys, 64) into the softmax: weights out, and what was added up so far shrunk to the new
// maximum. Keys beyond `count`, up to a whole lane, have no weight.
template <class Element>
inline void weigh_tile(
    const TrainedAttention& work, const SeenKeys& seen, int64_t key, int64_t count, float* scores, uint32_t* weights,
    Softmax& softmax, float* attended) {
  const bool all = seen.all(key, count);
  const Floats scale = broadcast(work.scale), one = broadcast(1.0f), hidden = broadcast(kHidden);
  for (int c = 0; c < kQueryVectors; ++c) {
    const Floats before = softmax.maximum[c];
    Floats maximum = before;
    for (int64_t k = 0; k < count; ++k) {
      float* place = scores + k * kQueries + c * 16;
      Floats score = multiply(scale, load(place));
      if (!all) {  // a score that is not seen becomes kHidden
        const Floats visible = seen.where(c, key + k, one);
        score = multiply_add(subtract(one, visible), hidden, seen.where(c, key + k, score));
      }
      maximum = larger(maximum, score);
      store(place, score);
    }
    const Floats factor = exponential(subtract(before, maximum));
    Floats sum = multiply(softmax.sum[c], factor);
    const auto weight = [&](int64_t k) {
      if (k >= count) return zeros();
      const Floats w = exponential(subtract(load(scores + k * kQueries + c * 16), maximum));
      return all ? w : seen.where(c, key + k, w);
    };
    for (int64_t k = 0; k < count; k += 2) {
      const Floats even = weight(k), odd = weight(k + 1);
      sum = add(sum, add(even, odd));
      store_steps<Element>(weights, kQueries, k, c * 16, even, odd);
    }
    for (int64_t d = 0; d < work.head_dim; ++d) {
      float* place = attended + d * kQueries + c * 16;
      store(place, multiply(factor, load(place)));
    }
    softmax.maximum[c] = maximum, softmax.sum[c] = sum;
  }
}

// The output of the heads that share a key head of a sequence, and the logarithms of their softmax's sums.
template <class Element>
void attend_item(const TrainedAttention& work, int64_t batch, int64_t kv_head, Own& own) {
  constexpr int64_t kBytes = 4 / Element::kRun;
  const int64_t width = work.head_dim, steps = width / Element::kRun, group = work.heads / work.kv_heads;
  uint32_t* values = own.lanes.reserve(
      round_up(work.stored, 2) / Element::kRun * width + kQueries * steps + kKeys * kQueries);
  uint32_t* query = values + round_up(work.stored, 2) / Element::kRun * width;
  uint32_t* weights = query + kQueries * steps;
  float* scores = own.sums.reserve(kKeys * kQueries + kQueries * width);
  float* attended = scores + kKeys * kQueries;
  pack_steps<Element>(rows_of(work.value, batch, kv_head, 0, kBytes), work.stored, 2, width, values);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t start = 0; start < work.length; start += kQueries) {
      const int64_t queries = std::min<int64_t>(kQueries, work.length - start);
      const SeenKeys seen(work, batch, start);
      pack_columns(rows_of(work.query, batch, head, start, kBytes), queries, kQueries, steps, query);
      std::fill_n(attended, kQueries * width, 0.0f);
      Softmax softmax;
      for (int64_t key = seen.lowest / kKeys * kKeys; key <= seen.highest; key += kKeys) {
        const int64_t count = std::min<int64_t>(kKeys, work.stored - key);
        const Left keys = rows_of(work.key, batch, kv_head, key, kBytes).left();
        product<Element>(keys, count, {query, kQueries}, kQueries, steps, scores, kQueries, false);
        weigh_tile<Element>(work, seen, key, count, scores, weights, softmax, attended);
        const Left value = transposed(values + key / Element::kRun * width, width);
        const int64_t pairs = round_up(count, 2) / Element::kRun;
        product<Element>(value, width, {weights, kQueries}, kQueries, pairs, attended, kQueries, true);
      }
      alignas(64) float maxima[kQueries], sums[kQueries];
      for (int c = 0; c < kQueryVectors; ++c) {
        store(maxima + c * 16, softmax.maximum[c]);
        store(sums + c * 16, softmax.sum[c]);
      }
      float* log_sum = work.log_sum + (batch * work.heads + head) * work.length + start;
      for (int64_t i = 0; i < queries; ++i) {
        log_sum[i] = maxima[i] + std::log(sums[i]);
        sums[i] = 1 / sums[i];
      }
      write_columns<Element>(attended, width, sums, rows_of(work.output, batch, head, start, kBytes), queries);
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

// A tile of scores and of the weights' gradients (keys, 64 each) → weights, and the scores' gradients, as rows and as
// steps.
template <class Element>
inline void differentiate_tile(
    const TrainedAttention& work, const SeenKeys& seen, int64_t key, int64_t count, const float* scores,
    const float* weight_gradients, const float* log_sum, const float* constant, uint32_t* weights, uint32_t* rows,
    uint32_t* steps) {
  const bool all = seen.all(key, count);
  const Floats scale = broadcast(work.scale);
  for (int c = 0; c < kQueryVectors; ++c) {
    const Floats normaliser = load(log_sum + c * 16), offset = load(constant + c * 16);
    for (int64_t k = 0; k < count; k += 2) {
      Floats gradient[2] = {zeros(), zeros()};
      for (int64_t i = 0; i < std::min<int64_t>(2, count - k); ++i) {
        const int64_t at = (k + i) * kQueries + c * 16;
        Floats weight = exponential(subtract(multiply(scale, load(scores + at)), normaliser));
        if (!all) weight = seen.where(c, key + k + i, weight);
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
  const int64_t padded = round_up(work.length, kQueries), of_head = padded * steps;
  const int64_t of_keys = round_up(work.stored, 2) / Element::kRun * width, of_tile = kKeys * kQueries;
  uint32_t* keys_as_steps = own.lanes.reserve(of_keys + 3 * of_tile + 4 * group * of_head);
  uint32_t *weights = keys_as_steps + of_keys, *rows = weights + of_tile, *as_steps = rows + of_tile;
  float* scores = own.sums.reserve(2 * of_tile + 2 * kKeys * width + group * padded * (width + 2));
  float *weight_gradients = scores + of_tile, *key_sums = weight_gradients + of_tile;
  float *value_sums = key_sums + kKeys * width, *of_heads = value_sums + kKeys * width;
  const auto operands = [&](int64_t g) {
    uint32_t* lanes = as_steps + of_tile + 4 * g * of_head;
    float* sums = of_heads + g * padded * (width + 2);
    return HeadOperands{lanes, lanes + of_head, lanes + 2 * of_head, lanes + 3 * of_head,
                        sums,  sums + padded,   sums + 2 * padded};
  };
  pack_steps<Element>(rows_of(work.key, batch, kv_head, 0, kBytes), work.stored, 2, width, keys_as_steps);
  for (int64_t g = 0; g < group; ++g) prepare_head<Element>(work, batch, kv_head * group + g, operands(g));
  for (int64_t key = 0; key < work.stored; key += kKeys) {
    const int64_t count = std::min<int64_t>(kKeys, work.stored - key);
    const Left keys = rows_of(work.key, batch, kv_head, key, kBytes).left();
    const Left values = rows_of(work.value, batch, kv_head, key, kBytes).left();
    std::fill_n(key_sums, 2 * kKeys * width, 0.0f);
    for (int64_t start = 0; start < work.length; start += kQueries) {
      const SeenKeys seen(work, batch, start);
      if (seen.none(key, count)) continue;
      for (int64_t g = 0; g < group; ++g) {
        const HeadOperands of = operands(g);
        const Right queries{of.query_columns + start * steps, kQueries};
        const Right gradients{of.gradient_columns + start * steps, kQueries};
        product<Element>(keys, count, queries, kQueries, steps, scores, kQueries, false);
        product<Element>(values, count, gradients, kQueries, steps, weight_gradients, kQueries, false);
        differentiate_tile<Element>(work, seen, key, count, scores, weight_gradients, of.log_sum + start,
                                    of.constant + start, weights, rows, as_steps);
        const int64_t at = start / Element::kRun * width;
        product<Element>({weights, kTileSteps, 1}, count, {of.gradient_steps + at, width}, width, kTileSteps,
                         value_sums, width, true);
        product<Element>({rows, kTileSteps, 1}, count, {of.query_steps + at, width}, width, kTileSteps, key_sums, width,
                         true);
        product<Element>(transposed(keys_as_steps + key / Element::kRun * width, width), width, {as_steps, kQueries},
                         kQueries, round_up(count, 2) / Element::kRun, of.query_gradient + start * width, kQueries,
                         true);
      }
    }
    const NumberRows key_out = rows_of(work.key_gradient, batch, kv_head, key, kBytes);
    const NumberRows value_out = rows_of(work.value_gradient, batch, kv_head, key, kBytes);
    for (int64_t i = 0; i < count * width; i += 16) {
      store(key_sums + i, multiply(broadcast(work.scale), load(key_sums + i)));
    }
    for (int64_t k = 0; k < count; ++k) {
      write_numbers<Element>(const_cast<uint8_t*>(key_out.first) + k * key_out.stride, key_sums + k * width, width);
      write_numbers<Element>(
          const_cast<uint8_t*>(value_out.first) + k * value_out.stride, value_sums + k * width, width);
    }
  }
  alignas(64) float scales[kQueries];
  std::fill_n(scales, kQueries, work.scale);
  for (int64_t g = 0; g < group; ++g) {
    for (int64_t start = 0; start < work.length; start += kQueries) {
      write_columns<Element>(
          operands(g).query_gradient + start * width, width, scales,
          rows_of(work.query_gradient, batch, kv_head * group + g, start, kBytes),
          std::min<int64_t>(kQueries, work.length - start));
    }
  }
}

// Shares the key heads of all sequences out among the threads.
template <class Item>
void for_each_key_head(Team& team, const TrainedAttention& work, Item item) {
  team.share(work.batch * work.kv_heads, [&](int64_t number) { item(number / work.kv_heads, number % work.kv_heads); });
}

}  // namespace lmworks
