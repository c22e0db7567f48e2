// The functions of the library, as C calls them: one call at a time, on memory that grows to the largest and is kept.
#include <mutex>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define LMWORKS_FORKS
#endif

#include "adamw.h"
#include "batch_attention.h"
#include "check.h"
#include "dequantise.h"
#include "token_sampling.h"
#include "exports.h"
#include "linear.h"
#include "peaks.h"
#include "program.h"
#include "softmax_loss.h"
#include "trained_attention.h"


namespace lmworks {
namespace {

std::mutex one_call_at_a_time;
Workspace* shared = nullptr;  // never destroyed, like the threads that use it

#ifdef LMWORKS_FORKS
// A child after fork begins anew: a thread that is gone may have held the lock, in the middle of a step.
void begin_anew() {
  new (&one_call_at_a_time) std::mutex();
  shared = nullptr;
  abandon_threads();
}

const int at_fork = pthread_atfork(nullptr, nullptr, begin_anew);
#endif

// Calls `work` with the memory for all threads; kNoMemory when it does not suffice.
template <class Work>
int32_t enter(Work work) {
  const std::lock_guard lock(one_call_at_a_time);
  try {
    if (shared == nullptr) shared = new Workspace();
    shared->own.resize(threads());
    return work(*shared);
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
}

}  // namespace
}  // namespace lmworks

using namespace lmworks;

LMWORKS_EXPORT int32_t lmworks_run(const Model* model, Batch* batch) {
  return enter([&](Workspace& work) { return run_program(*model, *batch, work); });
}

// out (rows, matrix.rows) = x (rows, matrix.columns) times the matrix; += where `add`. With a norm of x where there is
// one.
LMWORKS_EXPORT int32_t lmworks_linear(
    const Matrix* matrix, const Norm* norm, const float* x, int64_t rows, int32_t add, float* out) {
  return enter([&](Workspace& work) {
    reserve_rows(work, *matrix, rows);
    run_region([&](Team& team) {
      const auto product = [&](auto rows_of) {
        if (add) {
          linear<true>(team, work, *matrix, rows, rows_of, Adapters(), out);
        } else {
          linear<false>(team, work, *matrix, rows, rows_of, Adapters(), out);
        }
      };
      if (norm != nullptr) {
        product(NormedRows{x, matrix->columns, *norm});
      } else {
        product(PlainRows{x, matrix->columns});
      }
    });
    return kNone;
  });
}

// out (rows, hidden) = activation(gate) * up of the normed x (rows, gate_up.columns).
LMWORKS_EXPORT int32_t lmworks_norm_gated_linear(
    const Matrix* gate_up, const Norm* norm, int64_t hidden, int32_t activation, int32_t gated, const float* x,
    int64_t rows, float* out) {
  return enter([&](Workspace& work) {
    reserve_rows(work, *gate_up, rows);
    run_region([&](Team& team) {
      const NormedRows normed{x, gate_up->columns, *norm};
      gated_linear(team, work, *gate_up, {hidden, activation, gated}, rows, normed, Adapters(),
                   [&](int64_t row, int64_t group, Floats first, Floats second) {
                     alignas(64) float both[kBlock];
                     store(both, first);
                     store(both + 16, second);
                     write_block<false>(out + row * hidden, hidden, group, both);
                   });
    });
    return kNone;
  });
}

// out (tokens, heads * head_dim); queries and keys of qkv are normed and rotated in place.
LMWORKS_EXPORT int32_t lmworks_attend(const Layer* layer, Batch* batch, float* qkv, float* out) {
  return enter([&](Workspace& work) {
    const int32_t error = check_attention(*layer, *batch);
    if (error != kNone || batch->tokens == 0) return error;
    work.cut_tiles(*batch, layer->heads / layer->kv_heads);
    work.cut_sequences(*batch);
    reserve_attention(work, *layer, *batch, threads());
    run_region([&](Team& team) { attend_either(team, work, *layer, *batch, qkv, out); });
    return error;
  });
}

LMWORKS_EXPORT int32_t lmworks_read_numbers(const int32_t* numbers, int64_t count, int64_t* sum) {
  return enter([&](Workspace&) {
    std::atomic<int64_t> total{0};
    run_region([&](Team& team) { read_numbers(team, numbers, count, total); });
    *sum = total;
    return kNone;
  });
}

LMWORKS_EXPORT int32_t lmworks_multiply_ones(int32_t format, int64_t* products) {
  return enter([&](Workspace&) {
    std::atomic<int64_t> total{0};
    run_region([&](Team& team) { multiply_items(team, format, total); });
    *products = total;
    return kNone;
  });
}

// Samples the token of each row.
LMWORKS_EXPORT int32_t lmworks_draw(TokenSampling* rows, int64_t count) {
  return enter([&](Workspace& work) {
    int64_t longest = 0;
    for (int64_t row = 0; row < count; ++row) longest = std::max(longest, rows[row].count);
    for (Own& thread : work.own) thread.sampling.reserve(longest);
    if (count == 1) {  // to wake the others would take longer
      sample_token(rows[0], work.own[0].sampling);
      return kNone;
    }
    run_region([&](Team& team) {
      team.share(count, [&](int64_t row) { sample_token(rows[row], work.own[team.thread].sampling); });
    });
    return kNone;
  });
}

// The output and `log_sum`, or, with them, the three gradients.
LMWORKS_EXPORT int32_t lmworks_attend_trained(const TrainedAttention* problem, int32_t backward) {
  return enter([&](Workspace& work) {
    run_region([&](Team& team) {
      const FlushSubnormals flush;
      for_each_key_head(team, *problem, [&](int64_t batch, int64_t head) {
        Own& own = work.own[team.thread];
        if (problem->format == kBfloat16) {
          (backward ? differentiate_item<PairElement> : attend_item<PairElement>)(*problem, batch, head, own);
        } else {
          (backward ? differentiate_item<FloatElement> : attend_item<FloatElement>)(*problem, batch, head, own);
        }
      });
    });
    return kNone;
  });
}

// Replaces logits (rows, count) by the gradient of their cross-entropy; log_z, nats and means are (rows,).
LMWORKS_EXPORT int32_t lmworks_softmax_loss(
    void* logits, const int64_t* targets, int64_t rows, int64_t count, int32_t format, float smoothing, float z_loss,
    float* log_z, float* nats, float* means) {
  return enter([&](Workspace&) {
    run_region([&](Team& team) {
      team.share(rows, [&](int64_t r) {
        const auto differentiate = [&](auto row) {
          differentiate_row(row, count, targets[r], smoothing, z_loss, log_z + r, nats + r, means + r);
        };
        if (format == kBfloat16) {
          differentiate(Bfloat16Row{static_cast<uint16_t*>(logits) + r * count});
        } else {
          differentiate(Float32Row{static_cast<float*>(logits) + r * count});
        }
      });
    });
    return kNone;
  });
}

LMWORKS_EXPORT int32_t lmworks_adamw(const AdamWStep* step) {
  constexpr int64_t kAtATime = 8192;  // weights: whole vectors, and enough that sharing them out costs nothing
  return enter([&](Workspace&) {
    if (step->count <= kAtATime) {  // to wake the others would take longer
      update_weights(*step, 0, step->count);
      return kNone;
    }
    run_region([&](Team& team) {
      team.share((step->count + kAtATime - 1) / kAtATime, [&](int64_t item) {
        update_weights(*step, item * kAtATime, std::min(step->count, (item + 1) * kAtATime));
      });
    });
    return kNone;
  });
}

// out (rows, columns) of `out_format`, from blocks of int8 or int4.
LMWORKS_EXPORT int32_t lmworks_dequantise(
    const uint8_t* values, int64_t block_stride, int64_t rows, int64_t columns, int32_t format, int32_t out_format,
    uint8_t* out) {
  constexpr int64_t kAlone = 1 << 20;  // weights, a tenth of a millisecond: to wake the others would take as long
  const PackedBlocks matrix{values, block_stride, rows, columns};
  const auto with_element = [format](auto element) {
    using Element = decltype(element);
    return format == kInt4 ? dequantise_block<Element, true> : dequantise_block<Element, false>;
  };
  const auto dequantise = out_format == kBfloat16 ? with_element(PairElement()) : with_element(FloatElement());
  return enter([&](Workspace&) {
    (rows * columns > kAlone ? run_region : run_alone)([&](Team& team) {
      team.share((rows + kBlock - 1) / kBlock, [&](int64_t block) { dequantise(matrix, block, out); });
    });
    return kNone;
  });
}

LMWORKS_EXPORT void lmworks_set_threads(int32_t count) {
  const std::lock_guard lock(one_call_at_a_time);
  set_threads(count);
}

LMWORKS_EXPORT int32_t lmworks_threads() {
  const std::lock_guard lock(one_call_at_a_time);
  return threads();
}

// The sizes of the structures, for Python to compare with its own.
LMWORKS_EXPORT void lmworks_sizes(int64_t* sizes) {
  const int64_t ours[] = {sizeof(Matrix), sizeof(Norm),  sizeof(Change), sizeof(Changes), sizeof(Layer),
                          sizeof(Model),  sizeof(Table), sizeof(Batch),  sizeof(TokenSampling),
                          sizeof(TrainedAttention), sizeof(AdamWStep)};
  std::copy(std::begin(ours), std::end(ours), sizes);
}
