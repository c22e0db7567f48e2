// Windows that tell which stretches of a text may stand elsewhere: winnowing (Schleimer, Wilkerson & Aiken 2003).
// winnowing.py has the definition.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "hashing.h"

namespace lmworks {

// The hashes of all windows of some bytes, one after the other, each from the one before it.
class RollingHash {
public:
    RollingHash(const uint8_t* text, int64_t window) : text_(text), window_(window) {
        for (uint64_t byte = 0; byte < 256; ++byte) values_[byte] = mix(byte + 1);
        for (int64_t i = 0; i < window; ++i) {
            hash_ = hash_ * kMultiplier + values_[text[i]];
            power_ *= kMultiplier;
        }
    }

    uint64_t value() const { return mix(hash_); }

    // To the window that begins one byte later, whose last byte is there.
    void advance() {
        hash_ = hash_ * kMultiplier + values_[text_[at_ + window_]] - power_ * values_[text_[at_]];
        ++at_;
    }

private:
    const uint8_t* text_;
    const int64_t window_;
    int64_t at_ = 0;
    uint64_t hash_ = 0, power_ = 1, values_[256];
};

// Of each run of `width` neighbours, the windows with the least hash; of runs that an end of the text cuts off as well.
// The candidates are a queue of hashes that never fall: the first is the least of the run. Returns their number.
inline int64_t winnow(const uint8_t* text, int64_t size, int64_t window, int64_t width, uint64_t* hashes,
                      int64_t* places) {
    struct Candidate {
        uint64_t hash;
        int64_t place;
    };
    const int64_t number = size - window + 1;
    if (number <= 0) return 0;
    std::vector<Candidate> queue(std::bit_ceil(static_cast<size_t>(width) + 1));
    const auto slot = [&queue, mask = queue.size() - 1](int64_t at) -> Candidate& {
        return queue[static_cast<size_t>(at) & mask];
    };
    int64_t first = 0, last = 0, found = 0;  // of the queue: [first, last)
    const auto choose = [&](const Candidate& candidate) {
        hashes[found] = candidate.hash;
        places[found++] = candidate.place;
    };
    RollingHash rolling(text, window);
    uint64_t least = 0;
    bool known = false;  // all of the queue that have the hash `least` are chosen
    for (int64_t at = 0; at < number + width - 1; ++at) {
        if (first < last && slot(first).place <= at - width) ++first;
        if (at < number) {
            const Candidate next{rolling.value(), at};
            if (at + 1 < number) rolling.advance();
            while (first < last && slot(last - 1).hash > next.hash) --last;
            slot(last++) = next;
            if (known && slot(first).hash == least && next.hash == least) {
                choose(next);
                continue;
            }
        }
        if (known && slot(first).hash == least) continue;
        known = true;
        least = slot(first).hash;
        for (int64_t i = first; i < last && slot(i).hash == least; ++i) choose(slot(i));
    }
    return found;
}

}  // namespace lmworks
