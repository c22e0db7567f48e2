// The character n-grams of words, as numbers of buckets: those of fastText (Bojanowski et al. 2017, section 3.2), whose
// hash is FNV-1a of 32 bits over bytes with a sign. subwords.py has the definition.
#pragma once

#include <cstdint>

namespace lmworks {

inline bool continues(uint8_t byte) { return (byte & 0xC0) == 0x80; }

// The buckets of the n-grams of one word with < and > around it, in UTF-8, in the order of their beginnings and then of
// their lengths. Returns their number, and writes them where `to` is not null.
inline int64_t ngrams(const uint8_t* word, int64_t size, int32_t shortest, int32_t longest, uint32_t buckets, int32_t* to) {
    int64_t found = 0;
    for (int64_t start = 0; start < size; ++start) {
        if (continues(word[start])) continue;
        uint32_t hash = 2166136261u;
        int64_t at = start;
        for (int32_t length = 1; length <= longest && at < size; ++length) {
            do {
                hash = (hash ^ static_cast<uint32_t>(static_cast<int8_t>(word[at]))) * 16777619u;
            } while (++at < size && continues(word[at]));
            const bool edge = length == 1 && (start == 0 || at == size);  // < or > alone says nothing
            if (length < shortest || edge) continue;
            if (to) to[found] = static_cast<int32_t>(hash % buckets);
            ++found;
        }
    }
    return found;
}

}  // namespace lmworks
