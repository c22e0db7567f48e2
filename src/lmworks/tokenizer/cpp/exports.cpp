// What Python calls, through ctypes: plain C functions. A function that needs memory which is not there returns -1, and
// one that finds a word of more than `longest` bytes -2.

#include <cstdint>
#include <new>

#include "exports.h"
#include "merge_learner.h"
#include "scan.h"
#include "word_table.h"

using namespace lmworks;

namespace {

Scanner scanner(const uint8_t* classes, int32_t rule, int32_t digits) {
    return Scanner(classes, static_cast<Rule>(rule), digits);
}

}  // namespace

// The ends of the words of a text, in bytes: at most as many as the text has bytes. Their number is returned.
EXPORT int64_t lmworks_cut_words(const uint8_t* classes, int32_t rule, int32_t digits, const uint8_t* text, int64_t size,
                                 int64_t* ends) {
    const Scanner scan = scanner(classes, rule, digits);
    int64_t words = 0;
    for (const uint8_t *at = text, *end = text + size; at < end; ends[words++] = at - text) at = scan.word(at, end);
    return words;
}

EXPORT void* lmworks_words_new() { return new (std::nothrow) WordTable(); }
EXPORT void lmworks_words_free(void* table) { delete static_cast<WordTable*>(table); }
EXPORT int64_t lmworks_words_size(const void* table) { return static_cast<const WordTable*>(table)->size(); }
EXPORT int64_t lmworks_words_text(const void* table) { return static_cast<const WordTable*>(table)->text_bytes(); }
EXPORT int64_t lmworks_words_memory(const void* table) { return static_cast<const WordTable*>(table)->memory(); }

// Counts the words of texts that end at `ends`, and returns how many there were. `longest` is below 2^32.
EXPORT int64_t lmworks_words_count(void* table, const uint8_t* classes, int32_t rule, int32_t digits,
                                   const uint8_t* texts, const int64_t* ends, int64_t number, int64_t longest) {
    return guarded([&] {
        const Scanner scan = scanner(classes, rule, digits);
        WordTable& words = *static_cast<WordTable*>(table);
        int64_t counted = 0;
        const uint8_t* at = texts;
        for (int64_t text = 0; text < number; ++text) {
            for (const uint8_t* end = texts + ends[text]; at < end; ++counted) {
                const uint8_t* next = scan.word(at, end);
                if (next - at > longest) return int64_t{-2};
                words.add(at, static_cast<uint32_t>(next - at), 1);
                at = next;
            }
        }
        return counted;
    });
}

// Adds words that were counted elsewhere.
EXPORT int64_t lmworks_words_add(void* table, const uint8_t* bytes, const int64_t* ends, const int64_t* counts,
                                 int64_t number) {
    return guarded([&] {
        int64_t start = 0;
        for (int64_t i = 0; i < number; start = ends[i++]) {
            static_cast<WordTable*>(table)->add(bytes + start, static_cast<uint32_t>(ends[i] - start), counts[i]);
        }
        return number;
    });
}

EXPORT int64_t lmworks_words_read(const void* table, uint8_t* bytes, int64_t* ends, int64_t* counts) {
    return guarded([&] {
        static_cast<const WordTable*>(table)->read(bytes, ends, counts);
        return int64_t{0};
    });
}

EXPORT void* lmworks_merges_new(int32_t* cells, int64_t size, const uint32_t* run_starts, const int64_t* run_weights,
                                int64_t runs, int32_t alphabet, int64_t least, int32_t longest) {
    try {
        return new MergeLearner(cells, static_cast<Position>(size), run_starts, run_weights, runs, alphabet, least, longest);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
EXPORT void lmworks_merges_free(void* learner) { delete static_cast<MergeLearner*>(learner); }

EXPORT int64_t lmworks_merges_forbid(void* learner, const int32_t* symbols, int32_t length) {
    return guarded([&] { return static_cast<MergeLearner*>(learner)->forbid(symbols, length), int64_t{0}; });
}

EXPORT int64_t lmworks_merges_learn(void* learner, int64_t merges, void* learnt) {
    return guarded([&] { return static_cast<MergeLearner*>(learner)->learn(merges, static_cast<Merge*>(learnt)); });
}
