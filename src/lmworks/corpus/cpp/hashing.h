// Hashes of words and of runs of words: a polynomial modulo 2^64, finished by the mixing step of SplitMix64 (Steele, Lea
// & Flood 2014). reference.py has the definition.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lmworks {

constexpr uint64_t kMultiplier = 0xD1342543DE82EF95u;
constexpr uint8_t kSeparator = '\n';

inline uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// The words of UTF-8 between separators. Returns their number.
inline int64_t hash_words(const uint8_t* text, int64_t size, uint64_t* to) {
    int64_t found = 0;
    for (int64_t at = 0; at < size; ++at) {
        if (text[at] == kSeparator) continue;
        uint64_t hash = 0;
        do {
            hash = hash * kMultiplier + text[at];
        } while (++at < size && text[at] != kSeparator);
        to[found++] = mix(hash);
    }
    return found;
}

// Calls `use` with each run of `size` words in turn, or once with all of them where there are fewer. The hash of a run
// follows from that of the run before by leaving out its first word.
template <typename Use>
void for_each_shingle(const uint64_t* words, int64_t number, int64_t size, Use use) {
    if (number == 0) return;
    const int64_t length = std::min(size, number);
    uint64_t hash = 0, power = 1;
    for (int64_t i = 0; i < length; ++i) {
        hash = hash * kMultiplier + words[i];
        power *= kMultiplier;
    }
    use(mix(hash));
    for (int64_t i = length; i < number; ++i) {
        hash = hash * kMultiplier + words[i] - power * words[i - length];
        use(mix(hash));
    }
}

}  // namespace lmworks
