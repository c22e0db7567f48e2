// Samples a token from a row of scores: temperature, top-k, typical, top-p and min-p as token_sampling.py defines them.
//
// Nothing is sorted. Top-k, typical and top-p all keep what is first in some order until a count or a mass is reached,
// so all they need is the value at which that happens. It is sought by halves while there are many, which vectors do,
// and then in a histogram of the values' bits, which have the order of the values: the bin in which it happens, then
// inside this one, then it alone.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "abi.h"
#include "buffers.h"
#include "vector_math.h"

namespace lmworks {

constexpr int64_t kSummed = 256;  // weights added up in float32 as one piece: to a relative error of 1e-7
constexpr int64_t kRun = 64;      // scores of which one stands for all in the search for a bound
constexpr int kBins = 4096;       // of the first histogram; the two after it have 1024 each

// What one thread needs for the rows that it samples from.
struct SamplingBuffers {
  Buffer<float> scores, values, weights, masses, maxima;
  Buffer<int32_t> ids;
  Buffer<uint32_t> keys;
  Buffer<double> reached, bins;

  void reserve(int64_t count) {
    const int64_t filled = round_up(count, 16);
    for (Buffer<float>* buffer : {&scores, &values, &weights, &masses}) buffer->reserve(filled);
    maxima.reserve(count / kRun + 1);
    ids.reserve(filled);
    keys.reserve(filled);
    reached.reserve(count / kSummed + 1);
    bins.reserve(kBins);
  }
};

// The tokens that may still be sampled, in the order of their ids; `ids` null: all of the row.
struct Candidates {
  const float* scores;
  const int32_t* ids;
  int64_t count;
};

// A truncation keeps the values above the threshold, and of those equal to it the first `ties`.
struct Cut {
  float threshold;
  int64_t ties;
};

// Scores as the exponents of a softmax: (score - maximum) / temperature.
struct Scale {
  float maximum, inverse;
  Floats operator()(Floats scores) const {
    return multiply(subtract(scores, broadcast(maximum)), broadcast(inverse));
  }
};

inline float largest_score(const float* scores, int64_t count) {
  Floats largest = broadcast(-INFINITY);
  for_each_vector(scores, count, -INFINITY, [&](Floats v, int64_t) { largest = larger(largest, v); });
  return largest_of(largest);
}

inline Scale scale_of(const Candidates& candidates, const TokenSampling& sampling) {
  return {largest_score(candidates.scores, candidates.count), static_cast<float>(1 / sampling.temperature)};
}

// Leaves the weight of each candidate, and in `reached` the sum up to the end of each 256 of them; returns the total.
inline double weigh(const Candidates& candidates, const Scale& scale, SamplingBuffers& space) {
  const Floats lowest = exponential(broadcast(-INFINITY));  // not 0, which what must not be sampled has to weigh
  double total = 0;
  for (int64_t begin = 0; begin < candidates.count; begin += kSummed) {
    Floats sum = zeros();
    float* weights = space.weights.data() + begin;
    for_each_vector(candidates.scores + begin, std::min(kSummed, candidates.count - begin), -INFINITY,
                    [&](Floats scores, int64_t i) {
                      const Floats weight = subtract(exponential(scale(scores)), lowest);
                      store(weights + i, weight);
                      sum = add(sum, weight);
                    });
    total += sum_of(sum);
    space.reached.data()[begin / kSummed] = total;
  }
  return total;
}

// Calls `work(i)` for every value from `low` on and below `high`, in their order.
template <class Work>
inline void for_each_between(const float* values, int64_t count, float low, float high, Work work) {
  const Floats least = broadcast(low), limit = broadcast(high);
  for (int64_t begin = 0; begin < count; begin += 16) {
    const int left = static_cast<int>(std::min<int64_t>(16, count - begin));
    const Floats v = left == 16 ? load(values + begin) : load_first(values + begin, left);
    uint32_t lanes = at_least(v, least) & ~at_least(v, limit) & ((1u << left) - 1);
    for (; lanes != 0; lanes &= lanes - 1) {
      work(begin + std::countr_zero(lanes));
    }
  }
}

// Floats and integers in the same order. (Adding 0 makes one zero of the two.)
inline uint32_t key_of(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
inline float value_of(uint32_t key) {
  return std::bit_cast<float>(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// How many values are at least the bound, and what they weigh; `weights` null: 1 each.
struct Above {
  int64_t count;
  double mass;
};

inline Above above(const float* values, const float* weights, int64_t count, float bound) {
  const Floats least = broadcast(bound), ones = broadcast(1);
  Above found{0, 0};
  for (int64_t begin = 0; begin < count; begin += kSummed) {
    Floats sum = zeros();
    for_each_vector(values + begin, std::min(kSummed, count - begin), -INFINITY, [&](Floats v, int64_t i) {
      found.count += std::popcount(at_least(v, least));
      sum = add(sum, where_at_least(v, least, weights ? load(weights + begin + i) : ones));
    });
    found.mass += sum_of(sum);
  }
  return found;
}

// The cut at which the masses of the largest values reach the target: `count` keys with their masses, at least one, in
// the order of the tokens, and the mass before them. All are kept where the target is not reached.
inline Cut select(uint32_t* keys, float* masses, int64_t count, double before, double target, double* bins) {
  for (const int shift : {20, 10, 0}) {
    const uint32_t size = shift == 20 ? kBins : 1024;
    const auto bin_of = [&](uint32_t key) { return (key >> shift) & (size - 1); };
    std::fill_n(bins, size, 0.0);
    for (int64_t i = 0; i < count; ++i) bins[bin_of(keys[i])] += masses[i];
    uint32_t chosen = bin_of(keys[0]);
    double reached = before;
    for (uint32_t bin = size; bin-- > 0 && reached < target;) {
      if (bins[bin] == 0) continue;
      chosen = bin;
      before = reached;
      reached += bins[bin];
    }
    int64_t inside = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (bin_of(keys[i]) != chosen) continue;
      keys[inside] = keys[i];
      masses[inside++] = masses[i];
    }
    count = inside;
  }
  int64_t ties = 0;
  while (ties < count && before < target) before += masses[ties++];
  return {value_of(keys[0]), ties};
}

// The cut at which the largest of the candidates' values reach the target in weight; `weights` null: each weighs 1.
// Between `lowest`, which no value is below, and infinity, `guess` is tried first, and then the middle between the
// values that are known to be too low and too high, until few are left between these.
inline Cut find_cut(
    const float* values, const float* weights, int64_t count, double target, float lowest, float guess,
    SamplingBuffers& space) {
  constexpr int64_t kFew = 2048;
  constexpr int kMost = 16;  // where so many are equal that there are never few
  uint32_t low = key_of(lowest), high = key_of(INFINITY);
  Above of_low{count, 0}, of_high{0, 0};
  float bound = guess;
  for (int tried = 0; tried < kMost && of_low.count - of_high.count > kFew; ++tried) {
    const Above found = above(values, weights, count, bound);
    if (found.mass >= target) {
      low = key_of(bound);
      of_low = found;
    } else {
      high = key_of(bound);
      of_high = found;
    }
    bound = value_of(low + (high - low) / 2);
  }
  uint32_t* keys = space.keys.data();
  float* masses = space.masses.data();
  int64_t found = 0;
  for_each_between(values, count, value_of(low), value_of(high), [&](int64_t i) {
    keys[found] = key_of(values[i]);
    masses[found++] = weights ? weights[i] : 1;
  });
  return select(keys, masses, found, of_high.mass, target, space.bins.data());
}

// Leaves the candidates that the cut of their values keeps. They are moved forward in the buffers, sixteen at a time,
// which is never beyond what has been read: so the candidates may be there already, and the values be their scores.
inline void keep(Candidates& candidates, const float* values, Cut cut, SamplingBuffers& space) {
  const Floats threshold = broadcast(cut.threshold), next = broadcast(value_of(key_of(cut.threshold) + 1));
  float* scores = space.scores.data();
  int32_t* ids = space.ids.data();
  int64_t kept = 0;
  for (int64_t begin = 0; begin < candidates.count; begin += 16) {
    const int left = static_cast<int>(std::min<int64_t>(16, candidates.count - begin));
    const uint32_t all = (1u << left) - 1;
    const Floats v = left == 16 ? load(values + begin) : load_first(values + begin, left);
    const uint32_t above = at_least(v, next) & all;
    uint32_t equal = at_least(v, threshold) & all & ~above;
    cut.ties -= std::popcount(equal);
    for (; cut.ties < 0 && equal != 0; ++cut.ties) equal ^= std::bit_floor(equal);  // the last ones are too many
    const uint32_t lanes = above | equal;
    if (lanes == 0) continue;
    const float* from = candidates.scores + begin;
    const Floats moved = left == 16 ? load(from) : load_first(from, left);
    const Ints numbers = candidates.ids ? load_lanes(candidates.ids + begin)
                                        : add_ints(broadcast_int(static_cast<int32_t>(begin)), lane_numbers());
    store_lanes(scores + kept, moved, lanes);
    store_int_lanes(ids + kept, numbers, lanes);
    kept += std::popcount(lanes);
  }
  candidates = {scores, ids, kept};
}

inline void keep_top_k(Candidates& candidates, const TokenSampling& sampling, SamplingBuffers& space) {
  // Where the maxima of k runs reach a bound, at least k scores do, and mostly not many more.
  const int64_t runs = candidates.count / kRun;
  float guess = 0;
  if (sampling.top_k <= runs) {
    float* maxima = space.maxima.data();
    for (int64_t run = 0; run < runs; ++run) maxima[run] = largest_score(candidates.scores + run * kRun, kRun);
    std::nth_element(maxima, maxima + sampling.top_k - 1, maxima + runs, std::greater<float>());
    guess = maxima[sampling.top_k - 1];
  }
  const float* scores = candidates.scores;
  const double target = static_cast<double>(sampling.top_k);
  keep(candidates, scores, find_cut(scores, nullptr, candidates.count, target, -INFINITY, guess, space), space);
}

// With x a scaled score and w its weight, a token's information is ln Σ w - x, and the entropy ln Σ w - E[x].
inline void keep_typical(Candidates& candidates, const TokenSampling& sampling, SamplingBuffers& space) {
  constexpr float kNear = 5, kFar = 2000;  // nats from the entropy: mostly enough, and always
  const Scale scale = scale_of(candidates, sampling);
  const double total = weigh(candidates, scale, space);
  float *weights = space.weights.data(), *values = space.values.data();
  double sum = 0;  // of w x
  for (int64_t begin = 0; begin < candidates.count; begin += kSummed) {
    Floats part = zeros();
    for_each_vector(candidates.scores + begin, std::min(kSummed, candidates.count - begin), -INFINITY,
                    [&](Floats scores, int64_t i) {
                      const Floats x = larger(scale(scores), broadcast(-1000.0f));  // 0 times -inf would be NaN
                      store(values + begin + i, x);
                      part = multiply_add(load(weights + begin + i), x, part);
                    });
    sum += sum_of(part);
  }
  const Floats mean = broadcast(static_cast<float>(sum / total));
  for (int64_t i = 0; i < candidates.count; i += 16) {
    store(values + i, subtract(zeros(), absolute(subtract(load(values + i), mean))));
  }
  const double target = sampling.typical_p * total;
  keep(candidates, values, find_cut(values, weights, candidates.count, target, -kFar, -kNear, space), space);
}

inline void keep_top_p(Candidates& candidates, const TokenSampling& sampling, SamplingBuffers& space) {
  constexpr float kProbable = 1e-3f;  // of the largest probability: mostly enough
  const double total = weigh(candidates, scale_of(candidates, sampling), space);
  const float* weights = space.weights.data();
  const double target = sampling.top_p * total;
  keep(candidates, weights, find_cut(weights, weights, candidates.count, target, 0, kProbable, space), space);
}

inline void keep_min_p(Candidates& candidates, const TokenSampling& sampling, SamplingBuffers& space) {
  const float largest = largest_score(candidates.scores, candidates.count);
  const float threshold = largest + static_cast<float>(sampling.temperature * std::log(sampling.min_p));
  keep(candidates, candidates.scores, {threshold, candidates.count}, space);
}

// The first candidate at which the cumulated weight passes the part `uniform` of the total.
inline void invert_cumulative(const Candidates& candidates, TokenSampling& sampling, SamplingBuffers& space) {
  const double total = weigh(candidates, scale_of(candidates, sampling), space);
  const double* reached = space.reached.data();
  const int64_t blocks = (candidates.count + kSummed - 1) / kSummed;
  const double target = sampling.uniform * total;
  const int64_t block = std::upper_bound(reached, reached + blocks, target) - reached;
  const double before = block > 0 ? reached[block - 1] : 0;
  // How far the target lies inside its block is a part of it: the sum of the block's entries in float64 differs
  // from that in float32 in the last digits.
  const double part = (target - before) / (reached[block] - before);
  const float* weights = space.weights.data();
  const int64_t begin = block * kSummed, end = std::min(begin + kSummed, candidates.count);
  double sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += weights[i];
  int64_t entry = begin;  // never beyond the block, whatever is rounded
  for (double passed = weights[entry]; passed <= part * sum && entry + 1 < end; passed += weights[entry]) ++entry;
  sampling.token = candidates.ids ? candidates.ids[entry] : entry;
  sampling.log_probability = std::log(weights[entry] / total);
}

// Sets `token` and `log_probability`; 0 and -inf where all scores are -inf.
inline void sample_token(TokenSampling& sampling, SamplingBuffers& space) {
  Candidates candidates{sampling.scores, nullptr, sampling.count};
  if (largest_score(sampling.scores, sampling.count) == -INFINITY) {
    sampling.token = 0;
    sampling.log_probability = -INFINITY;
    return;
  }
  if (sampling.top_k > 0 && sampling.top_k < sampling.count) keep_top_k(candidates, sampling, space);
  if (sampling.typical_p < 1) keep_typical(candidates, sampling, space);
  if (sampling.top_p < 1) keep_top_p(candidates, sampling, space);
  if (sampling.min_p > 0) keep_min_p(candidates, sampling, space);
  invert_cumulative(candidates, sampling, space);
}

}  // namespace lmworks
