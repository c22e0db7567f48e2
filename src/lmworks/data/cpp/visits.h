// How often an automaton that reads bytes comes to each of its features. language_walk.py has the definition.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace lmworks {

// The features in the order in which they are first come to, and how often each. `rows` has of each state where its row
// of `next` begins; a negative feature is none. There is room for `size` of them. Returns their number.
inline int64_t count_visits(const uint32_t* next, const int64_t* rows, const int32_t* feature_of, const uint8_t* text,
                            int64_t size, int32_t* found, int32_t* counts) {
    // Where each feature is in `found`, from 1 on: a hash table, since a text has few of the features of a model.
    const size_t slots = std::bit_ceil(static_cast<size_t>(std::max<int64_t>(2 * size, 2)));
    std::vector<int32_t> places(slots);
    uint32_t state = 0;
    int32_t number = 0;
    for (int64_t i = 0; i < size; ++i) {
        state = next[rows[state] + text[i]];
        const int32_t feature = feature_of[state];
        if (feature < 0) continue;
        size_t slot = (static_cast<uint64_t>(feature) * 0x9e3779b97f4a7c15u >> 32) & (slots - 1);
        while (places[slot] && found[places[slot] - 1] != feature) slot = (slot + 1) & (slots - 1);
        if (!places[slot]) {
            found[number] = feature;
            counts[number] = 0;
            places[slot] = ++number;
        }
        ++counts[places[slot] - 1];
    }
    return number;
}

}  // namespace lmworks
