// A whole decoder in one region of the threads: see docs/kernels.md for the order of its operations.
#include <algorithm>
#include <atomic>
#include <new>
#include <vector>

#include "batch_attention.h"
#include "check.h"
#include "embed.h"
#include "head.h"
#include "linear.h"
#include "program.h"

namespace lmworks {
namespace {

// One step of a model: what its operations share.
struct Step {
  const Model& model;
  const Batch& batch;
  Workspace& work;
  int64_t width;       // of the residual stream
  int64_t most_ranks;  // of the changes of a matrix, added up
};

Adapters adapters_of(const Step& step, int64_t layer, Site site) {
  Adapters adapters;
  if (step.batch.adapters == nullptr || step.most_ranks == 0) return adapters;
  adapters.used = step.batch.adapters;
  adapters.changes = step.model.adapters + layer * kSites + site;
  adapters.stride = step.model.layer_count * kSites;
  adapters.low_rank = step.work.low_rank.data();
  adapters.most_ranks = step.most_ranks;
  return adapters;
}

int64_t most_ranks_of(const Model& model) {
  int64_t most = 0;
  for (int64_t i = 0; i < model.adapter_count * model.layer_count * kSites; ++i) {
    int64_t ranks = 0;
    for (int64_t c = 0; c < model.adapters[i].count; ++c) ranks += model.adapters[i].changes[c].rank;
    most = std::max(most, ranks);
  }
  return most;
}

Gating gating_of(const Layer& layer) { return {layer.down.columns, layer.activation, layer.gated}; }


// Whether to wake the other threads, or to wait for one that a busy machine does not run, could take longer than to
// compute alone: a question to an encoder. (The single tokens of a decoder wait for memory, which all threads read.)
bool is_small(const Step& step) {
  constexpr int64_t kFewProducts = 400'000'000;  // some milliseconds of one thread
  int64_t products = 0;
  for (int64_t i = 0; i < step.model.layer_count; ++i) {
    const Layer& layer = step.model.layers[i];
    for (const Matrix* matrix : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
      products += matrix->rows * matrix->columns * step.batch.tokens;
    }
  }
  return products < kFewProducts;
}

void reserve(const Step& step, int threads) {
  const Model& model = step.model;
  Workspace& work = step.work;
  const int64_t tokens = step.batch.tokens;
  work.own.resize(threads);
  work.residual.reserve(tokens * step.width);
  work.change.reserve(tokens * step.width);
  work.low_rank.reserve(tokens * step.most_ranks);
  int group = 1;  // of the layer whose tiles have the most queries: all layers have the same tiles
  for (int64_t i = 0; i < model.layer_count; ++i) {
    group = std::max(group, model.layers[i].heads / model.layers[i].kv_heads);
  }
  work.cut_tiles(step.batch, group);
  work.cut_sequences(step.batch);
  for (int64_t i = 0; i < model.layer_count; ++i) {
    const Layer& layer = model.layers[i];
    work.qkv.reserve(tokens * layer.qkv.rows);
    work.attended.reserve(tokens * layer.output.columns);
    reserve_attention(work, layer, step.batch, threads);
    for (const Matrix* matrix : {&layer.qkv, &layer.output, &layer.gate_up}) reserve_rows(work, *matrix, tokens);
    work.hidden_activations.reserve(layer.down.format, tokens, layer.down.columns);
    if (step.most_ranks > 0) {
      work.hidden.reserve(tokens * round_up(layer.down.columns, kGroup));
    }
  }
  if (model.head.values == nullptr) return;
  reserve_rows(work, model.head, step.batch.rows);
  work.parts.reserve(step.batch.rows * ((block_count(model.head) + kPartBlocks - 1) / kPartBlocks));
}

void embed(Team& team, const Step& step) {
  const Model& model = step.model;
  team.share(step.batch.tokens, [&](int64_t token) {
    float* x = step.work.residual.data() + token * step.width;
    read_row(model.embedding, step.batch.ids[token], model.embedding_scale, x);
    if (model.positions == nullptr) return;
    const float* learned = model.positions + step.batch.positions[token] * step.width;
    for (int64_t column = 0; column < step.width; ++column) x[column] += learned[column];
  });
}

// x += post_norm(the product), or without the norm where there is none.
void add_product(
    Team& team, const Step& step, const Matrix& matrix, const Activations& x, const Norm& post_norm,
    const Adapters& adapters) {
  const int64_t tokens = step.batch.tokens, width = step.width;
  float* residual = step.work.residual.data();
  if (post_norm.weight == nullptr) {
    multiply_rows(team, matrix, x, tokens, adapters, [&](int64_t row, int64_t block, const float* out) {
      write_block<true>(residual + row * width, width, block, out);
    });
    return;
  }
  float* change = step.work.change.data();
  multiply_rows(team, matrix, x, tokens, adapters, [&](int64_t row, int64_t block, const float* out) {
    write_block<false>(change + row * width, width, block, out);
  });
  team.share(tokens, [&](int64_t token) {
    float* mine = change + token * width;
    normalise(mine, width, post_norm, mine);
    for (int64_t column = 0; column < width; ++column) residual[token * width + column] += mine[column];
  });
}

NormedRows normed_rows(const Step& step, const Layer& layer, const Norm& norm) {
  float* residual = step.work.residual.data();
  return {residual, step.width, norm, nullptr, layer.in_place ? residual : nullptr};
}

// Leaves the heads' results in `attended`.
void attention(Team& team, const Step& step, int64_t number) {
  const Layer& layer = step.model.layers[number];
  Workspace& work = step.work;
  const NormedRows normed = normed_rows(step, layer, layer.attention_norm);
  linear<false>(team, work, layer.qkv, step.batch.tokens, normed, adapters_of(step, number, kQkv), work.qkv.data());
  attend_either(team, work, layer, step.batch, work.qkv.data(), work.attended.data());
}

void add_attention(Team& team, const Step& step, int64_t number) {
  const Layer& layer = step.model.layers[number];
  const Adapters adapters = adapters_of(step, number, kOutput);
  const PlainRows attended{step.work.attended.data(), layer.output.columns};
  const Activations x = round_rows(team, step.work, layer.output, step.batch.tokens, attended, adapters);
  add_product(team, step, layer.output, x, layer.attention_post_norm, adapters);
}

// Leaves the hidden values, rounded for the second product; and as floats where an adapter needs them.
void feed_forward(Team& team, const Step& step, int64_t number) {
  const Layer& layer = step.model.layers[number];
  Workspace& work = step.work;
  const Gating gating = gating_of(layer);
  const Activations hidden = work.hidden_activations.view(layer.down.format, layer.down.columns);
  const Adapters adapters = adapters_of(step, number, kGateUp);
  const NormedRows normed = normed_rows(step, layer, layer.feed_forward_norm);
  gated_linear(team, work, layer.gate_up, gating, step.batch.tokens, normed, adapters,
               [&](int64_t row, int64_t group, Floats first, Floats second) {
                 round_group(first, second, hidden, row, group);
                 if (adapters.used == nullptr) return;
                 float* floats = work.hidden.data() + row * hidden.columns + group * kGroup;
                 store(floats, first);
                 store(floats + 16, second);
               });
}

void add_feed_forward(Team& team, const Step& step, int64_t number) {
  const Layer& layer = step.model.layers[number];
  const Activations hidden = step.work.hidden_activations.view(layer.down.format, layer.down.columns);
  const Adapters adapters = adapters_of(step, number, kDown);
  if (adapters.used != nullptr) {
    team.share(step.batch.tokens, [&](int64_t token) {
      lower_rank(adapters, token, step.work.hidden.data() + token * hidden.columns, layer.down.columns);
    });
  }
  add_product(team, step, layer.down, hidden, layer.feed_forward_post_norm, adapters);
}

// The last hidden states of the wanted rows, as floats: what the head multiplies is rounded.
void hidden_states(Team& team, const Step& step) {
  const NormedRows normed{step.work.residual.data(), step.width, step.model.final_norm, step.batch.wanted};
  team.share(step.batch.rows, [&](int64_t row) {
    float* out = step.batch.hidden + row * step.width;
    const float* states = normed(row, out);
    if (states != out) std::copy_n(states, step.width, out);
  });
}

void block(Team& team, const Step& step, int64_t number) {
  attention(team, step, number);
  if (step.model.layers[number].parallel) {  // both parts read the same residual stream
    feed_forward(team, step, number);
    add_attention(team, step, number);
  } else {
    add_attention(team, step, number);
    feed_forward(team, step, number);
  }
  add_feed_forward(team, step, number);
}

// All layers, and what is wanted of the last one's result.
void run_layers(Team& team, const Step& step) {
  embed(team, step);
  for (int64_t number = 0; number < step.model.layer_count; ++number) block(team, step, number);
  if (step.batch.hidden != nullptr) hidden_states(team, step);
  if (step.batch.rows > 0 && step.model.head.values != nullptr) {
    head(team, step.work, step.model, step.batch, step.work.residual.data());
  }
}

constexpr int64_t kPartTokens = 256;

// Whole sequences of a batch, about 256 tokens, and the wanted ones among them.
struct Part {
  Batch batch;
  std::vector<int32_t> wanted;
};

// A batch without pages as parts that need nothing of each other; empty where it is too small for all threads, or the
// wanted tokens are not in order.
std::vector<Part> parts_of(const Model& model, const Batch& batch) {
  std::vector<Part> parts;
  const bool alone = model.head.values == nullptr && model.layers[0].page_count == 0 && batch.adapters == nullptr;
  if (!alone || batch.tokens < kPartTokens * threads() || !std::is_sorted(batch.wanted, batch.wanted + batch.rows)) {
    return parts;
  }
  int64_t row = 0;
  for (int64_t start = 0, end; start < batch.tokens; start = end) {
    for (end = start + 1; end < batch.tokens; ++end) {
      if (batch.sequences[end] != batch.sequences[end - 1] && end - start >= kPartTokens * 3 / 4) break;
    }
    Part part{batch, {}};
    part.batch.ids += start;
    part.batch.positions += start;
    part.batch.sequences += start;
    part.batch.tokens = end - start;
    if (batch.hidden != nullptr) part.batch.hidden += row * model.embedding.columns;
    for (; row < batch.rows && batch.wanted[row] < end; ++row) {
      part.wanted.push_back(static_cast<int32_t>(batch.wanted[row] - start));
    }
    part.batch.rows = static_cast<int64_t>(part.wanted.size());
    parts.push_back(std::move(part));
  }
  for (Part& part : parts) part.batch.wanted = part.wanted.data();
  return parts;
}

// Each part on one thread from beginning to end: no thread waits for another one, which a busy machine may not run.
Error run_parts(const Model& model, const std::vector<Part>& parts, Workspace& work) {
  std::atomic<bool> fits{true};
  work.of_threads.resize(threads());
  run_region([&](Team& team) {
    Workspace& own = work.of_threads[team.thread];
    team.share(static_cast<int64_t>(parts.size()), [&](int64_t item) {
      const Step step{model, parts[item].batch, own, model.embedding.columns, 0};
      try {
        reserve(step, 1);
      } catch (const std::bad_alloc&) {
        fits = false;
        return;
      }
      run_alone([&](Team& alone) { run_layers(alone, step); });
    });
  });
  return fits ? kNone : kNoMemory;
}

}  // namespace

Error run_program(const Model& model, Batch& batch, Workspace& work) {
  const Error error = check(model, batch);
  if (error != kNone || batch.tokens == 0) return error;
  if (const std::vector<Part> parts = parts_of(model, batch); !parts.empty()) return run_parts(model, parts, work);
  const Step step{model, batch, work, model.embedding.columns, batch.adapters ? most_ranks_of(model) : 0};
  reserve(step, threads());
  const auto region = model.head.values == nullptr && is_small(step) ? run_alone : run_region;
  region([&](Team& team) { run_layers(team, step); });
  return kNone;
}

}  // namespace lmworks
