// Where the numbers of a page of the key/value cache are (kv_pages.py draws it), and how a token's are stored there.
#pragma once

#include <algorithm>

#include "abi.h"
#include "simd.h"

namespace lmworks {

constexpr int kPageTokens = 16;

// A layer's cache: (pages, 2, kv_heads, page bytes).
struct PageLayout {
  uint8_t* pages;
  int64_t kv_heads, head_dim, page_bytes;
  int32_t format;

  explicit PageLayout(const Layer& layer)
      : pages(static_cast<uint8_t*>(layer.pages)),
        kv_heads(layer.kv_heads),
        head_dim(layer.head_dim),
        page_bytes(kPageTokens * (layer.head_dim * number_bytes(layer.cache_format) + scale_bytes(layer.cache_format))),
        format(layer.cache_format) {}

  uint8_t* keys(int64_t page, int64_t head) const { return pages + (page * 2 * kv_heads + head) * page_bytes; }
  uint8_t* values(int64_t page, int64_t head) const { return keys(page, head) + kv_heads * page_bytes; }

  // The sixteen scales behind the numbers of an int8 page.
  float* scales(uint8_t* page) const { return reinterpret_cast<float*>(page + kPageTokens * head_dim); }

  static int64_t number_bytes(int32_t format) {
    return format == kCacheFloat32 ? 4 : format == kCacheBfloat16 ? 2 : 1;
  }
  static int64_t scale_bytes(int32_t format) { return format == kCacheInt8 ? 4 : 0; }
};

// How many neighbours share a lane of 4 bytes: dimensions of a key, tokens of a value.
inline int run_of(int32_t cache_format) { return cache_format == kCacheFloat32 ? 1 : 2; }

constexpr int kMostDimensions = 1024;  // of a head

// The first position that a query at `position` sees.
inline int64_t first_seen(const Layer& layer, int64_t position) {
  return std::max<int64_t>(layer.first, layer.window > 0 ? position - layer.window + 1 : 0);
}

// keys [head_dim / run][16][run]: the numbers of a run move together, as one lane of a float page or half a lane.
template <class Number, int kRun>
inline void scatter_key(const Number* numbers, int64_t head_dim, int slot, void* page) {
  Number* to = static_cast<Number*>(page) + slot * kRun;
  for (int64_t d = 0; d < head_dim; d += kRun, to += kPageTokens * kRun) {
    std::memcpy(to, numbers + d, kRun * sizeof(Number));
  }
}

// values [16 / run][head_dim][run]. Only this token's own bytes are written: its neighbour's may be, by another thread.
template <class Number, int kRun>
inline void scatter_value(const Number* numbers, int64_t head_dim, int slot, void* page) {
  Number* to = static_cast<Number*>(page) + slot / kRun * head_dim * kRun + slot % kRun;
  for (int64_t d = 0; d < head_dim; ++d) to[d * kRun] = numbers[d];
}

// Rounds a head to int8, by its largest number; returns the scale.
inline float round_head_to_int8(const float* head, int64_t head_dim, int8_t* out) {
  Floats largest = zeros();
  for (int64_t d = 0; d < head_dim; d += 16) largest = larger(largest, absolute(load(head + d)));
  const float most = largest_of(largest), inverse = most > 0 ? 127.0f / most : 0.0f;
  for (int64_t d = 0; d < head_dim; d += 16) {
    store_int8(out + d, round_to_ints(multiply(load(head + d), broadcast(inverse))));
  }
  return most / 127.0f;
}

// Stores the key and the value (head_dim,) of one token and head.
inline void store_key_and_value(
    const PageLayout& layout, int64_t page, int64_t head, int slot, const float* key, const float* value) {
  uint8_t* keys = layout.keys(page, head);
  uint8_t* values = layout.values(page, head);
  switch (layout.format) {
    case kCacheFloat32:
      scatter_key<float, 1>(key, layout.head_dim, slot, keys);
      scatter_value<float, 1>(value, layout.head_dim, slot, values);
      return;
    case kCacheBfloat16: {
      uint16_t numbers[kMostDimensions];
      for (int64_t d = 0; d < layout.head_dim; d += 16) store_bfloat16(numbers + d, load(key + d));
      scatter_key<uint16_t, 2>(numbers, layout.head_dim, slot, keys);
      for (int64_t d = 0; d < layout.head_dim; d += 16) store_bfloat16(numbers + d, load(value + d));
      scatter_value<uint16_t, 2>(numbers, layout.head_dim, slot, values);
      return;
    }
    default: {
      int8_t numbers[kMostDimensions];
      layout.scales(keys)[slot] = round_head_to_int8(key, layout.head_dim, numbers);
      scatter_key<int8_t, 2>(numbers, layout.head_dim, slot, keys);
      layout.scales(values)[slot] = round_head_to_int8(value, layout.head_dim, numbers);
      scatter_value<int8_t, 2>(numbers, layout.head_dim, slot, values);
    }
  }
}

}  // namespace lmworks
