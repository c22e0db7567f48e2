// Rows of 16 floats times `parts`, and the three sums over them that learning is made of.
//
// The vector types of GCC and clang become whatever the machine has. Lanes are added up in one order, whatever their
// number in a register, so that a result does not depend on the machine; NumPy repeats it bit by bit (reference.py).
#pragma once

#include <cstdint>
#include <cstring>

#define INLINE inline __attribute__((always_inline))

namespace lmworks {

constexpr int64_t kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));

INLINE Floats load(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
INLINE void store(float* to, const Floats& x) { std::memcpy(to, &x, sizeof x); }

// The sum of the lanes, in halves.
INLINE float total(const Floats& x) {
    float lanes[16];
    std::memcpy(lanes, &x, sizeof lanes);
    for (int half = 8; half; half /= 2) {
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

INLINE float dot(const float* a, const float* b, int64_t parts) {
    Floats sum = load(a) * load(b);
    for (int64_t i = 1; i < parts; ++i) sum += load(a + i * kLanes) * load(b + i * kLanes);
    return total(sum);
}

// to += factor * from
INLINE void add(float* to, float factor, const float* from, int64_t parts) {
    for (int64_t i = 0; i < parts; ++i) {
        store(to + i * kLanes, load(to + i * kLanes) + factor * load(from + i * kLanes));
    }
}

INLINE void add(float* to, const float* from, int64_t parts) {
    for (int64_t i = 0; i < parts; ++i) store(to + i * kLanes, load(to + i * kLanes) + load(from + i * kLanes));
}

INLINE void prefetch(const float* row, int64_t parts) {
    for (int64_t i = 0; i < parts; ++i) __builtin_prefetch(row + i * kLanes);
}

}  // namespace lmworks
