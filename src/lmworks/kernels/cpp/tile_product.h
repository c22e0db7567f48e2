// Products of small matrices in registers, six rows times four vectors of columns, and what turns rows of a tensor into
// their operands. A lane of 4 bytes is a pair of bfloat16 or one float32 (`Element` of attend.h), and a step multiplies
// one lane of each: the inner dimension is that many steps.
#pragma once

#include "attend.h"

namespace lmworks {

constexpr int kProductRows = 6;
constexpr int kProductVectors = 4;
constexpr int kMostWidth = 512;  // numbers in a row

// The left operand: lane (row, step) is at `row * row_stride + step * step_stride`.
struct Left {
  const uint32_t* lanes;
  int64_t row_stride, step_stride;
};

// The right operand: the lanes of `columns` side by side, `stride` lanes from one step to the next.
struct Right {
  const uint32_t* lanes;
  int64_t stride;
};

template <class Element, int R, int C>
inline void product_block(Left left, Right right, int64_t steps, float* out, int64_t out_stride, bool add_to) {
  Floats sums[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sums[r][c] = add_to ? load(out + r * out_stride + c * 16) : zeros();
  }
  for (int64_t step = 0; step < steps; ++step) {
    Lanes column[C];
    for (int c = 0; c < C; ++c) column[c] = load_lanes(right.lanes + step * right.stride + c * 16);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Lanes row = broadcast_lane(left.lanes + r * left.row_stride + step * left.step_stride);
      for (int c = 0; c < C; ++c) sums[r][c] = Element::dot(sums[r][c], column[c], row);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) store(out + r * out_stride + c * 16, sums[r][c]);
  }
}

// out (rows, columns) = left right, or += where `add_to`. `columns` is a multiple of 16.
template <class Element>
inline void product(
    Left left, int64_t rows, Right right, int64_t columns, int64_t steps, float* out, int64_t out_stride, bool add_to) {
  for (int64_t column = 0; column < columns; column += 16 * kProductVectors) {
    const int vectors = static_cast<int>(std::min<int64_t>(kProductVectors, (columns - column) / 16));
    with_constant<kProductVectors>(vectors, [&](auto vectors_constant) {
      for (int64_t row = 0; row < rows; row += kProductRows) {
        const int count = static_cast<int>(std::min<int64_t>(kProductRows, rows - row));
        with_constant<kProductRows>(count, [&](auto rows_constant) {
          product_block<Element, decltype(rows_constant)::value, decltype(vectors_constant)::value>(
              {left.lanes + row * left.row_stride, left.row_stride, left.step_stride},
              {right.lanes + column, right.stride}, steps, out + row * out_stride + column, out_stride, add_to);
        });
      }
    });
  }
}

// Rows of numbers in memory: bfloat16 or float32, each row contiguous.
struct NumberRows {
  const uint8_t* first;
  int64_t stride;  // in bytes

  const uint32_t* row(int64_t r) const { return reinterpret_cast<const uint32_t*>(first + r * stride); }
};

// The rows one after the other: those of a head lie as far apart as all heads are wide, so that they would share few
// sets of a cache.
inline void pack_rows(NumberRows rows, int64_t count, int64_t steps, uint32_t* out) {
  for (int64_t r = 0; r < count; ++r) std::copy_n(rows.row(r), steps, out + r * steps);
}

// Sixteen rows of sixteen lanes to columns: each of four rounds zips the first eight with the last eight.
inline void transpose(Lanes (&rows)[16]) {
  for (int round = 0; round < 4; ++round) {
    Lanes zipped[16];
    for (int i = 0; i < 8; ++i) {
      zipped[2 * i] = zip_first(rows[i], rows[i + 8]);
      zipped[2 * i + 1] = zip_second(rows[i], rows[i + 8]);
    }
    std::copy_n(zipped, 16, rows);
  }
}

// The rows as columns of a right operand: out[step][row], `padded` rows, a multiple of 16, of which those from `count`
// on are 0.
inline void pack_columns(NumberRows rows, int64_t count, int64_t padded, int64_t steps, uint32_t* out) {
  for (int64_t row = 0; row < padded; row += 16) {
    for (int64_t step = 0; step < steps; step += 16) {
      const int64_t here = std::min<int64_t>(16, steps - step);
      Lanes lanes[16];
      for (int64_t r = 0; r < 16; ++r) {
        alignas(64) uint32_t few[16]{};
        const bool whole = here == 16 && row + r < count;
        if (!whole && row + r < count) std::copy_n(rows.row(row + r) + step, here, few);
        lanes[r] = load_lanes(whole ? rows.row(row + r) + step : few);
      }
      transpose(lanes);
      for (int64_t i = 0; i < here; ++i) write_lanes(out + (step + i) * padded + row, lanes[i]);
    }
  }
}

// The rows as steps of an operand: out[row / run][number], `run` neighbouring rows in a lane; rows from `count` up to a
// multiple of `padding` are 0. As a right operand its columns are the numbers; `transposed` makes them a left operand's
// rows.
template <class Element>
inline void pack_steps(NumberRows rows, int64_t count, int64_t padding, int64_t width, uint32_t* out) {
  const int64_t padded = round_up(count, padding);
  for (int64_t r = 0; r < padded; r += Element::kRun, out += width) {
    if constexpr (Element::kRun == 1) {
      if (r < count) {
        std::copy_n(rows.row(r), width, out);
      } else {
        std::fill_n(out, width, 0u);
      }
    } else {
      static constexpr uint16_t nothing[kMostWidth] = {};
      const auto* even = r < count ? reinterpret_cast<const uint16_t*>(rows.row(r)) : nothing;
      const auto* odd = r + 1 < count ? reinterpret_cast<const uint16_t*>(rows.row(r + 1)) : nothing;
      for (int64_t i = 0; i < width; ++i) out[i] = even[i] | static_cast<uint32_t>(odd[i]) << 16;
    }
  }
}

inline Left transposed(const uint32_t* steps, int64_t width) { return {steps, 1, width}; }

// Two neighbouring rows of sums as the steps of a right operand with `columns` columns; `row` is even.
template <class Element>
inline void store_steps(uint32_t* out, int64_t columns, int64_t row, int64_t column, Floats even, Floats odd) {
  if constexpr (Element::kRun == 1) {
    Element::store(out, row * columns + column, even);
    Element::store(out, (row + 1) * columns + column, odd);
  } else {
    store_bfloat16_pairs(out + row / 2 * columns + column, even, odd);
  }
}

}  // namespace lmworks
