// Where the numbers of a page of the key/value cache are (pages.py draws it), and how a token's are stored there.
#pragma once

#include <cmath>

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

inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// How many neighbours share a lane of 4 bytes: dimensions of a key, tokens of a value.
inline int run_of(int32_t cache_format) { return cache_format == kCacheFloat32 ? 1 : 2; }

// Stores one token: `place(dimension)` is where each of its numbers goes.
template <class Place>
inline void store_token(const PageLayout& layout, uint8_t* page, int slot, const float* token, Place place) {
  switch (layout.format) {
    case kCacheFloat32:
      for (int d = 0; d < layout.head_dim; ++d) reinterpret_cast<float*>(page)[place(d)] = token[d];
      break;
    case kCacheBfloat16:
      for (int d = 0; d < layout.head_dim; ++d) reinterpret_cast<uint16_t*>(page)[place(d)] = to_bfloat16(token[d]);
      break;
    default: {
      float largest = 0;
      for (int d = 0; d < layout.head_dim; ++d) largest = std::max(largest, std::fabs(token[d]));
      const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
      layout.scales(page)[slot] = largest / 127.0f;
      for (int d = 0; d < layout.head_dim; ++d) {
        reinterpret_cast<int8_t*>(page)[place(d)] = static_cast<int8_t>(std::nearbyint(token[d] * inverse));
      }
    }
  }
}

// keys [head_dim / run][16][run]
inline void store_key(const PageLayout& layout, int64_t page, int64_t head, int slot, const float* key) {
  const int run = run_of(layout.format);
  store_token(layout, layout.keys(page, head), slot, key,
              [=](int d) { return (d / run * kPageTokens + slot) * run + d % run; });
}

// values [16 / run][head_dim][run]
inline void store_value(const PageLayout& layout, int64_t page, int64_t head, int slot, const float* value) {
  const int run = run_of(layout.format);
  const int64_t first = slot / run * layout.head_dim * run + slot % run;
  store_token(layout, layout.values(page, head), slot, value, [=](int d) { return first + d * run; });
}

}  // namespace lmworks
