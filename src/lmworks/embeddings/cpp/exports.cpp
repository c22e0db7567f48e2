// What Python calls, through ctypes: plain C functions. A function that needs memory which is not there returns -1.
//
// Several threads learn into the same rows at once, without locks (Hogwild, Recht et al. 2011): two updates of a row
// rarely meet, and when they do, one of them may be lost in part.

#include "exports.h"

#include <vector>

#include "glove.h"
#include "negative_sampling.h"
#include "ngrams.h"

using namespace lmworks;

namespace {

EVERY_MACHINE int64_t learn(const Model* model, const int32_t* ids, int64_t size, uint64_t seed, int64_t done) {
    return Learner(*model).learn(ids, size, seed, done);
}

EVERY_MACHINE double learn(const Factors* factors, const int32_t* words, const int32_t* contexts,
                           const float* logarithms, const float* weights, int64_t number, float* steps) {
    return learn_entries(*factors, words, contexts, logarithms, weights, number, steps);
}

}  // namespace

EXPORT int64_t lmworks_vectors_learn(const Model* model, const int32_t* ids, int64_t size, uint64_t seed, int64_t done) {
    return guarded([&] { return learn(model, ids, size, seed, done); });
}

EXPORT int64_t lmworks_glove_learn(const Factors* factors, const int32_t* words, const int32_t* contexts,
                                   const float* logarithms, const float* weights, int64_t number, double* loss) {
    return guarded([&] {
        std::vector<float> steps(2 * factors->parts * kLanes);
        *loss = learn(factors, words, contexts, logarithms, weights, number, steps.data());
        return number;
    });
}

// The buckets of all n-grams of words that end at `ends`, and at `to_ends` how many there are up to each word. Where
// `to` is null, they are only counted.
EXPORT int64_t lmworks_vectors_ngrams(const uint8_t* text, const int64_t* ends, int64_t words, int32_t shortest,
                                      int32_t longest, uint32_t buckets, int32_t* to, int64_t* to_ends) {
    int64_t found = 0, start = 0;
    for (int64_t i = 0; i < words; start = ends[i++]) {
        found += ngrams(text + start, ends[i] - start, shortest, longest, buckets, to ? to + found : nullptr);
        to_ends[i] = found;
    }
    return found;
}
