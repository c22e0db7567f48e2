// What Python calls, through ctypes: plain C functions. A function that needs memory which is not there returns -1. Rows
// of values lie one after the other, and `ends` has one past the last value of each.

#include "exports.h"

#include <algorithm>

#include "hashing.h"
#include "minhash.h"
#include "winnow.h"

using namespace lmworks;

// The hashes of the words of texts, and how many there are up to the end of each text. Returns their number.
EXPORT int64_t lmworks_corpus_hash_words(const uint8_t* text, const int64_t* ends, int64_t texts, uint64_t* to,
                                       int64_t* to_ends) {
    int64_t found = 0, start = 0;
    for (int64_t i = 0; i < texts; start = ends[i++]) {
        found += hash_words(text + start, ends[i] - start, to + found);
        to_ends[i] = found;
    }
    return found;
}

// The shingles of rows of words, sorted and each once; there are at most as many as words. Returns their number.
EXPORT int64_t lmworks_corpus_shingle_sets(const uint64_t* words, const int64_t* ends, int64_t rows, int64_t size,
                                         uint64_t* to, int64_t* to_ends) {
    uint64_t* end = to;
    int64_t start = 0;
    for (int64_t i = 0; i < rows; start = ends[i++]) {
        uint64_t* const begin = end;
        for_each_shingle(words + start, ends[i] - start, size, [&end](uint64_t shingle) { *end++ = shingle; });
        std::sort(begin, end);
        end = std::unique(begin, end);
        to_ends[i] = end - to;
    }
    return end - to;
}

EXPORT int64_t lmworks_corpus_signatures(const uint64_t* words, const int64_t* ends, int64_t rows, int64_t size,
                                       int64_t permutations, uint64_t seed, uint32_t* to) {
    return guarded([&] {
        Signer signer(size, permutations, seed);
        int64_t start = 0;
        for (int64_t i = 0; i < rows; start = ends[i++]) {
            signer.sign(words + start, ends[i] - start, to + i * permutations);
        }
        return rows;
    });
}

// The windows of a text that tell where it may repeat another; there are at most as many as bytes. Returns their number.
EXPORT int64_t lmworks_corpus_winnow(const uint8_t* text, int64_t size, int64_t window, int64_t width, uint64_t* hashes,
                                   int64_t* places) {
    return guarded([&] { return winnow(text, size, window, width, hashes, places); });
}

// How many values the two sorted rows of each pair share.
EXPORT int64_t lmworks_corpus_common(const uint64_t* values, const int64_t* ends, const int64_t* pairs, int64_t number,
                                   int64_t* to) {
    const auto start = [ends](int64_t row) { return row ? ends[row - 1] : int64_t{0}; };
    for (int64_t i = 0; i < number; ++i) {
        int64_t a = start(pairs[2 * i]), b = start(pairs[2 * i + 1]), found = 0;
        const int64_t a_end = ends[pairs[2 * i]], b_end = ends[pairs[2 * i + 1]];
        while (a < a_end && b < b_end) {
            const uint64_t x = values[a], y = values[b];
            found += x == y;
            a += x <= y;
            b += y <= x;
        }
        to[i] = found;
    }
    return number;
}
