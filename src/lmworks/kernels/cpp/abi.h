// The border to Python: plain C structures, mirrored field by field in c_structures.py.
//
// All pointers are owned by Python and stay valid during a call. Matrices are in the layout that packing.py describes,
// pages in that of kv_pages.py; plain arrays are row-major float32.
#pragma once

#include <cstdint>

namespace lmworks {

enum Format : int32_t { kFloat32, kBfloat16, kInt8, kInt4 };
enum CacheFormat : int32_t { kCacheFloat32, kCacheBfloat16, kCacheInt8 };
enum Activation : int32_t { kSilu, kGelu, kGeluTanh, kRelu, kRelu2 };
enum NormKind : int32_t { kRms, kLayer };
enum Site : int32_t { kQkv, kOutput, kGateUp, kDown, kSites };

// What is wrong with a batch; `Batch::error_at` says where.
enum Error : int32_t {
  kNone,
  kBadToken,      // no such id in the embedding
  kBadPosition,   // beyond the rotation's, the learned positions' or the page table's length
  kBadSequence,   // no such row in the page tables
  kBadPage,       // the table has no page where one is read or written
  kBadWanted,     // no such token in the batch
  kBadAdapter,    // no such adapter in the model
  kNoMemory,      // for what lies between input and output
};

struct Matrix {
  const void* values;
  const float* bias;      // or null
  int64_t rows, columns;  // without padding
  int32_t format;
};

struct Norm {
  const float* weight;
  const float* bias;  // or null
  int32_t kind;
  float eps;
};

// A low-rank change of the rows from `first` on: x @ a^T @ b^T, `a` (rank, columns), `b` transposed: (rank, rows). Its
// scale is part of `b`.
struct Change {
  const float* a;
  const float* b;
  int64_t first, rows, rank;
};

struct Changes {
  const Change* changes;
  int64_t count;
};

struct Layer {
  Norm attention_norm, query_norm, key_norm, attention_post_norm, feed_forward_norm, feed_forward_post_norm;
  Matrix qkv, output, gate_up, down;
  const float* cosine;  // (positions, rotated), or null
  const float* sine;
  void* pages;         // (page_count, 2, kv_heads, page bytes)
  int64_t page_count;  // 0: nothing is kept, and queries see keys of the batch alone
  int32_t heads, kv_heads, head_dim, rotated;
  int32_t rotation_length;  // positions in the tables
  int32_t window;           // 0: none
  int32_t first;            // positions before it are not seen
  float scale, softcap;     // softcap 0: none
  int32_t activation, gated, parallel;
  int32_t in_place;       // the norm of x takes the place of x
  int32_t bidirectional;  // without pages: queries see the keys behind them, too
  int32_t cache_format, group;
};

struct Model {
  const Layer* layers;
  const float* positions;   // (position_count, width), or null
  const Changes* adapters;  // (adapter_count, layer_count, kSites)
  int64_t layer_count, adapter_count, position_count;
  Matrix embedding, head;  // without values: no head
  Norm final_norm;
  float embedding_scale, head_softcap;
};

struct Table {
  const int32_t* pages;  // (sequences, length)
  int64_t length;
};

struct Batch {
  const int32_t* ids;        // (tokens,)
  const int32_t* positions;  // (tokens,)
  const int32_t* sequences;  // (tokens,)
  const int32_t* adapters;   // (tokens,), or null
  const int32_t* wanted;     // (rows,)
  const Table* tables;       // (groups,)
  float* logits;             // (rows, vocabulary)
  int64_t* best;             // (rows,)
  float* log_normaliser;     // (rows,)
  float* hidden;             // (rows, width), or null: not asked for
  int64_t tokens, rows, sequence_count, group_count;
  int64_t error_at;
};

// A tensor (batch, heads, places, head_dim), its last dimension contiguous; strides in numbers.
struct HeadsView {
  void* data;
  int64_t batch_stride, head_stride, place_stride;
};

// Attention in training. Query i of a sequence sees the keys from `first` to `last`, both included.
struct TrainedAttention {
  HeadsView query, key, value, output, output_gradient, query_gradient, key_gradient, value_gradient;
  const int32_t* first;  // (batch, length), or null: 0
  const int32_t* last;   // (batch, length), or null: i
  float* log_sum;        // (batch, heads, length), of the softmax
  int64_t batch, heads, kv_heads, length, stored, head_dim;
  float scale;
  int32_t format;
};

// A step of AdamW over `count` weights: weight = kept weight - rate mean / (deviation_scale sqrt(square) + epsilon),
// where mean and square are the new moments of factor times the gradient.
struct AdamWStep {
  float* weight;
  float* first_moment;
  float* second_moment;
  const void* gradient;
  uint16_t* rounded;  // the weight in bfloat16, or null
  int64_t count;
  int32_t gradient_format;
  // The parts of the new gradient in the moments, 1 - beta, come by themselves: near 1, float32 would lose them.
  float factor, beta1, beta2, new_in_first, new_in_second, kept, rate, deviation_scale, epsilon;
};

// A row from which a token is sampled; the last two are written.
struct TokenSampling {
  const float* scores;  // (count,); -inf: must not be sampled
  int64_t count, top_k;
  double temperature, typical_p, top_p, min_p;
  double uniform;  // in [0, 1)
  double log_probability;
  int64_t token;
};

}  // namespace lmworks
