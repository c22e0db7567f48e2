// Learning a Unigram vocabulary, as Python calls it. A function that needs memory which is not there returns -1.

#include <cstdint>
#include <new>

#include "exports.h"
#include "unigram_lattice.h"

using namespace lmworks;

// The arrays are the caller's, who keeps them as long as the lattice.
EXPORT void* lmworks_unigram_new(const int32_t* cells, int64_t size, const uint32_t* run_starts,
                                 const int64_t* run_weights, int64_t runs, int32_t alphabet, int32_t longest,
                                 int64_t least, int64_t limit, int32_t blocks) {
    try {
        const Words words{cells, static_cast<Position>(size), run_starts, run_weights, runs};
        return new Lattice(words, alphabet, longest, least, static_cast<size_t>(limit), blocks);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
EXPORT void lmworks_unigram_free(void* lattice) { delete static_cast<Lattice*>(lattice); }
EXPORT int64_t lmworks_unigram_size(const void* lattice) { return static_cast<const Lattice*>(lattice)->size(); }

EXPORT void lmworks_unigram_read(const void* lattice, uint32_t* begins, int32_t* lengths, int64_t* frequencies) {
    static_cast<const Lattice*>(lattice)->read(begins, lengths, frequencies);
}

EXPORT int64_t lmworks_unigram_expect(const void* lattice, int32_t block, const double* probability, double* expected,
                                      double* likelihood) {
    return guarded([&] {
        *likelihood = static_cast<const Lattice*>(lattice)->expect(block, probability, expected);
        return int64_t{0};
    });
}

EXPORT int64_t lmworks_unigram_best(const void* lattice, int32_t block, const double* score, int64_t* counts) {
    return guarded([&] { return static_cast<const Lattice*>(lattice)->best(block, score, counts), int64_t{0}; });
}

EXPORT int64_t lmworks_unigram_alternatives(const void* lattice, const double* score, int64_t* ends, uint32_t* others) {
    return guarded([&] {
        static_cast<const Lattice*>(lattice)->alternatives(score, ends, others);
        return int64_t{0};
    });
}

EXPORT int64_t lmworks_unigram_keep(void* lattice, const uint8_t* marked) {
    return guarded([&] { return static_cast<Lattice*>(lattice)->keep(marked), int64_t{0}; });
}
