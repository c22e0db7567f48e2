// What the functions for Python share.
#pragma once

#include <cstdint>
#include <new>

#define EXPORT extern "C" __attribute__((visibility("default")))

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
