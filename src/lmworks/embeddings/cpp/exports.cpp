// What Python calls, through ctypes: plain C functions. A function that needs memory which is not there returns -1.
//
// Several threads learn into the same rows at once, without locks (Hogwild, Recht et al. 2011): two updates of a row
// rarely meet, and when they do, one of them may be lost in part.

#include "exports.h"

#include <vector>

#include "glove.h"
#include "negative_sampling.h"

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
