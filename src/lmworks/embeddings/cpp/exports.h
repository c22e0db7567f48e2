// What the files with functions for Python share.
#pragma once

#include <cstdint>
#include <new>

#define EXPORT extern "C" __attribute__((visibility("default")))

// The functions in which the time goes are compiled once for each of these sets of instructions, and the best is taken
// when the library is loaded. The results have the same bits on all of them: sums are in one order (rows.h), and a
// product and a sum are never one instruction.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__)
#define EVERY_MACHINE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_MACHINE
#endif

namespace lmworks {

// What a function returns, or -1 where it needs memory that is not there.
template <typename Function>
int64_t guarded(Function function) {
    try {
        return function();
    } catch (const std::bad_alloc&) {
        return -1;
    }
}

}  // namespace lmworks
